"""Stage 8: the networks of a pack as ONNX graphs that point into its files of weights.

`build_pack.py` does it at its end; by itself it gives graphs to a pack that is there.

    python export_graphs.py --pack PACK
"""

from __future__ import annotations

import argparse
import json
import shutil
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.embed.openclip.network import build, space_of
from clip_feature_codec.embed.openclip.source import find_model
from clip_feature_codec.files import write_atomic
from clip_feature_codec.graphs import Graph, Graphs
from clip_feature_codec.names import (
    CLIP_FOLDER,
    DECODER_FOLDER,
    IMAGE_GRAPH,
    TEXT_GRAPH,
    UNET_GRAPH,
    UPSAMPLER_GRAPH,
    WEIGHTS_FILE,
)

_OPSET = 17  # the first with LayerNormalization
_MERGES = "bpe_simple_vocab_16e6.txt.gz"
_DTYPES = {"F16": onnx.TensorProto.FLOAT16, "F32": onnx.TensorProto.FLOAT}


class _Call(nn.Module):
    """A network whose forward pass is one of its methods."""

    def __init__(self, network: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network, self.call = network, call

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.call(*inputs)


def export_graph(
    path: Path,
    weights: Path,
    network: nn.Module,
    call: Callable[..., Tensor],
    inputs: dict[str, Tensor],
    prefix: str = "",
) -> None:
    """Write a network as a graph whose weights are those in a safetensors file beside it.

    Args:
        path: the graph.
        weights: the file, float16 or float32; the graph turns float16 into float32.
        network: in eval mode, with the weights of the file.
        call: what is to be exported: the network, or a method of its.
        inputs: examples, two rows each, not the same; in the graph there may be any number of rows.
        prefix: of the weights' names in the file, before those of the network.

    Raises:
        SystemExit: the graph gives other numbers than the network, for these rows or for one or three.
    """
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each shape that is read is said to become a constant: they should
        whole = Path(folder) / path.name
        torch.onnx.export(
            _Call(network, call),
            tuple(inputs.values()),
            str(whole),
            dynamo=False,  # the other exporter gives weights names of its own
            opset_version=_OPSET,
            do_constant_folding=False,  # it would make new weights of the old
            training=torch.onnx.TrainingMode.PRESERVE,  # and so would this
            input_names=list(inputs),
            output_names=["output"],
            dynamic_axes={name: {0: "rows"} for name in (*inputs, "output")},
        )
        model = onnx.load(whole)
    narrow_constants(model.graph)
    point_into(model.graph, weights, prefix)
    write_atomic(path, model.SerializeToString())
    graph = Graph(path)
    for rows in ([0, 1], [1], [1, 0, 1]):
        given = [value[rows] for value in inputs.values()]
        (found,) = graph(*(value.numpy() for value in given))
        expected = call(*given).detach().numpy()
        # An axis that tracing has made a constant, as `len` does, goes wrong in another number of rows.
        if found.shape != expected.shape or np.abs(found - expected).max() > 1e-3 * np.abs(expected).max():
            raise SystemExit(f"{path}: for {len(rows)} rows, the graph is not what the network is")


def narrow_constants(graph: onnx.GraphProto) -> None:
    """Make float32 of constants that are float64, which browsers' graphics processors do not have."""
    for value in [attribute.t for node in graph.node for attribute in node.attribute]:
        if value.data_type == onnx.TensorProto.DOUBLE:
            narrow = onnx.numpy_helper.to_array(value).astype(np.float32)
            value.CopyFrom(onnx.numpy_helper.from_array(narrow, value.name))


def point_into(graph: onnx.GraphProto, weights: Path, prefix: str) -> None:
    """Put pointers into a safetensors file in the place of a graph's weights.

    Raises:
        SystemExit: the file has no tensor for one of them.
    """
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    casts = []
    for tensor in graph.initializer:
        found = header.get(tensor.name.replace("network.", prefix, 1), {})
        if found.get("shape") != list(tensor.dims) or found.get("dtype") not in _DTYPES:
            raise SystemExit(f"{weights} has no weight for the graph's {tensor.name} {list(tensor.dims)}")
        begin, end = found["data_offsets"]
        name, kind = tensor.name, _DTYPES[found["dtype"]]
        tensor.Clear()
        tensor.name, tensor.data_type = name, kind
        tensor.dims.extend(found["shape"])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": weights.name, "offset": 8 + length + begin, "length": end - begin}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        if kind != onnx.TensorProto.FLOAT:
            tensor.name = f"{name}.{found['dtype']}"
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def export_clip(folder: Path) -> None:
    """Give graphs to a CLIP model in open_clip's format.

    Raises:
        SystemExit: its preprocessing or its tokenizer is one that exists on torch only.
    """
    source = find_model(str(folder), None)
    network = build(source)
    space = space_of(source, network)
    text = source.config["text_cfg"]
    own_tokenizer = not text.keys() & {"hf_tokenizer_name", "tokenizer_kwargs"}
    if space.preprocessing["resize_mode"] != "squash" or not own_tokenizer:
        raise SystemExit(f"{folder}: a model with graphs squashes pictures and has CLIP's own tokenizer")
    height, width = space.preprocessing["size"]
    length = text["context_length"]
    weights = Path(source.weights)
    towers: dict[str, tuple[Any, dict[str, Tensor]]] = {
        IMAGE_GRAPH: (network.encode_image, {"pixels": torch.randn(2, 3, height, width)}),
        TEXT_GRAPH: (network.encode_text, {"tokens": torch.randint(text["vocab_size"], (2, length))}),
    }
    for name, (call, inputs) in towers.items():
        export_graph(folder / name, weights, network, call, inputs)
    shutil.copyfile(_package("open_clip") / _MERGES, folder / _MERGES)
    told = {name: value for name, value in space.to_json().items() if name not in ("model", "pretrained")}
    facts = {"space": told, "tokenizer": {"merges": _MERGES, "context_length": length}}
    Graphs.describe(weights, [*towers, _MERGES], facts)


def export_decoder(path: Path) -> None:
    """Give graphs to a decoder."""
    decoder = load_decoder(path)
    unet, upsampler, side = decoder.unet, decoder.upsampler, decoder.image_size
    pictures = torch.randn(2, 3, side, side)
    times = torch.tensor([0, decoder.scheduler.timesteps - 1])
    inputs = {"x": pictures, "z": torch.randn(2, decoder.space.dim), "t": times}
    if decoder.layout_side:
        inputs["layout"] = torch.randn(2, 4, decoder.layout_side, decoder.layout_side)
    graphs = [UNET_GRAPH]
    export_graph(path.with_name(UNET_GRAPH), path, unet, unet, inputs, "unet.")
    if upsampler is not None:
        graphs.append(UPSAMPLER_GRAPH)
        small = {"pictures": pictures}
        if upsampler.told is not None:
            small["vectors"] = inputs["z"]
        export_graph(path.with_name(UPSAMPLER_GRAPH), path, upsampler, upsampler.detail, small, "upsampler.")
    Graphs.describe(path, graphs, {})


def export_pack(pack: Path) -> None:
    """Give graphs to all networks of a pack."""
    export_clip(pack / CLIP_FOLDER)
    export_decoder(pack / DECODER_FOLDER / WEIGHTS_FILE)


def _package(name: str) -> Path:
    found = find_spec(name)
    if found is None or found.origin is None:
        raise SystemExit(f"{name} is not installed")
    return Path(found.origin).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--pack", type=Path, required=True, help="folder of the pack")
    export_pack(parser.parse_args().pack)


if __name__ == "__main__":
    main()
