"""The teacher: a quantised MobileNetV2 in LiteRT's format, turned into a network that can be trained.

Its weights are integers with a scale; multiplied out they are those of timm's ``mobilenetv2_100`` with the
batch norms folded into the convolutions. Run as a command, it writes that network for the other stages, which
then need no LiteRT, and measures on pictures how far it agrees with the file as LiteRT runs it:

    python teacher.py TEACHER.tflite --labels LABELS.txt --data PHOTOS.parquet ... --out teacher.safetensors

On a CPU `label_crops.py` had better be given the quantised file itself: LiteRT is four times as fast.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from data import Pictures, as_batch, load_pictures

SIDE = 224  # pixels of its input
CLASSES = 1000  # without the "background" that the file has in front of them
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_NORMED = {  # in timm's modules, each convolution with its norm
    "EfficientNet": (("conv_stem", "bn1"), ("conv_head", "bn2")),
    "DepthwiseSeparableConv": (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    "InvertedResidual": (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}


class TeacherFile:
    """A quantised classifier as LiteRT runs it: fast, and without gradients."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter  # its native library takes a while to load

        self._interpreter: Any = Interpreter(str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._tensors = {tensor["index"]: tensor for tensor in self._interpreter.get_tensor_details()}
        self._operations = [
            operation
            for operation in self._interpreter._get_ops_details()
            if operation["op_name"] != "DELEGATE"
        ]
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._logits = self._softmax_input()

    def logits(self, images: np.ndarray) -> np.ndarray:
        """What the classifier says of pictures: uint8 (N, 224, 224, 3) -> float32 (N, 1000)."""
        scale, zero = self._tensors[self._logits]["quantization"]
        rows: list[np.ndarray] = []
        for image in images:
            self._interpreter.set_tensor(self._input, image[None])
            self._interpreter.invoke()
            rows.append(self._interpreter.get_tensor(self._logits)[0, 1:])
        logits: np.ndarray = np.float32(scale) * (np.stack(rows).astype(np.float32) - zero)
        return logits

    def convolutions(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights float32 (out, in / groups, 3 or 1, 3 or 1) and biases (out,), from input to output."""
        found = []
        for operation in self._operations:
            if operation["op_name"] in _CONVOLUTIONS:
                weight, bias = (self._values(index) for index in operation["inputs"][1:3])
                deep = operation["op_name"] == "DEPTHWISE_CONV_2D"
                found.append((weight.transpose((3, 0, 1, 2) if deep else (0, 3, 1, 2)), bias))
        return found

    def _values(self, index: int) -> np.ndarray:
        scale, zero = self._tensors[index]["quantization"]
        whole = self._interpreter.get_tensor(index).astype(np.float64) - zero
        values: np.ndarray = (scale * whole).astype(np.float32)
        return values

    def _softmax_input(self) -> int:
        (softmax,) = (op for op in self._operations if op["op_name"] == "SOFTMAX")
        return int(softmax["inputs"][0])


class TeacherNetwork:
    """The same classifier as a network, on any device; see `TeacherFile`."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self._network = read_teacher(path).to(device).to(memory_format=torch.channels_last)
        self._device = device

    @torch.inference_mode()
    def logits(self, images: np.ndarray) -> np.ndarray:
        """What the classifier says of pictures: uint8 (N, 224, 224, 3) -> float32 (N, 1000)."""
        parts = np.array_split(images, len(images) // 64 + 1)
        return np.concatenate([self._network(as_batch(part, self._device)).cpu().numpy() for part in parts])


def read_teacher(path: Path, pad_type: str = "same") -> Any:
    """The classifier as a float network of timm's: pictures (N, 3, S, S) in [-1, 1] -> logits (N, 1000).

    Args:
        path: the quantised file, or what this module's command made of it.
        pad_type: ``"same"`` is how the file pads (TensorFlow's way); ``""`` is how PyTorch and timm do,
            which moves what each stride sees by a pixel.
    """
    network: Any = timm.create_model("mobilenetv2_100", num_classes=CLASSES, pad_type=pad_type)
    if path.suffix == ".tflite":
        _fill(network, TeacherFile(path).convolutions())
    else:
        load_model(network, path)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def _fill(network: Any, layers: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Give a network the weights and biases of its convolutions and, last, of its classifier."""
    modules = list(network.modules())
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    for convolution, norm, (weight, bias) in zip(convolutions, norms, layers[:-1], strict=True):
        convolution.weight.copy_(torch.from_numpy(weight))
        _only_add(norm, torch.from_numpy(bias))
    weight, bias = layers[-1]
    network.classifier.weight.copy_(torch.from_numpy(weight[1:, :, 0, 0]))
    network.classifier.bias.copy_(torch.from_numpy(bias[1:]))


def fold_norms(network: nn.Module) -> None:
    """Take the batch norms of a timm MobileNetV2 out, in place: scales and shifts go to the convolutions.

    What remains is the same function in evaluation, a third faster to train; `unfold_norms` is the way back.
    """
    for _, module, convolution, norm in list(_normed(network)):
        layer = getattr(module, norm)
        setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution).eval(), layer.eval()))
        setattr(module, norm, layer.act)


@torch.no_grad()
def unfold_norms(folded: dict[str, Tensor], network: nn.Module) -> None:
    """Give a network with batch norms the weights of a folded one; the norms only add the biases.

    Args:
        folded: state of a network that `fold_norms` was done to.
        network: the same as timm builds it, with norms as they begin.
    """
    for prefix, module, convolution, norm in _normed(network):
        getattr(module, convolution).weight.copy_(folded[f"{prefix}{convolution}.weight"])
        _only_add(getattr(module, norm), folded[f"{prefix}{convolution}.bias"])


def _only_add(norm: Any, bias: Tensor) -> None:
    """Let a batch norm do nothing but add a bias."""
    norm.weight.copy_((norm.running_var + norm.eps).sqrt())
    norm.bias.copy_(bias)


def _normed(network: nn.Module) -> Iterator[tuple[str, nn.Module, str, str]]:
    """Each convolution with its norm, from input to output: prefix of their names, module, both names."""
    for name, module in network.named_modules():
        for convolution, norm in _NORMED.get(type(module).__name__, ()):
            yield f"{name}." if name else "", module, convolution, norm


def read_names(path: Path) -> list[list[str]]:
    """The names of each of the 1,000 classes: the first of each line, then its synonyms."""
    lines = path.read_text().splitlines()[1:]
    return [[name.strip() for name in line.split(",")] for line in lines]


def known_classes(pictures: Pictures, names: list[list[str]]) -> np.ndarray:
    """The class of each picture by its name, int64 (N,); -1 where no class or more than one has the name."""
    found: dict[str, int] = {}
    for number, synonyms in enumerate(names):
        for name in {name.lower() for name in synonyms}:
            found[name] = -1 if name in found else number
    whole = {tuple(name.lower() for name in synonyms): number for number, synonyms in enumerate(names)}

    def number_of(synonyms: list[str]) -> int:
        several = whole.get(tuple(synonyms)) if len(synonyms) > 1 else None
        return found.get(synonyms[0], -1) if several is None else several

    return np.array([number_of(pictures.synonyms[label]) for label in pictures.labels])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teacher", type=Path)
    parser.add_argument(
        "--labels", type=Path, required=True, help="a line per class, the first is background"
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="the network (.safetensors)")
    args = parser.parse_args()

    pictures = load_pictures(args.data, SIDE)
    save_model(read_teacher(args.teacher), args.out)
    both = {
        "LiteRT": torch.from_numpy(TeacherFile(args.teacher).logits(pictures.images)),
        "PyTorch": torch.from_numpy(TeacherNetwork(args.out, torch.device("cpu")).logits(pictures.images)),
    }
    first = [logits.argmax(1) for logits in both.values()]
    within = (both["PyTorch"].topk(5).indices == first[0][:, None]).any(1)
    print(f"{len(pictures)} pictures: same first {(first[0] == first[1]).float().mean():.1%}, ", end="")
    print(f"LiteRT's first in PyTorch's first five {within.float().mean():.1%}")
    classes = torch.from_numpy(known_classes(pictures, read_names(args.labels)))
    known = classes >= 0
    truth = classes[known, None]
    for name, logits in both.items():
        right = logits[known].topk(5).indices == truth
        print(f"{name}, {len(truth)} with known names: top-1 {right[:, 0].float().mean():.1%}, ", end="")
        print(f"top-5 {right.any(1).float().mean():.1%}")


if __name__ == "__main__":
    main()
