"""Networks in files of other programs' formats, ONNX and LiteRT (TensorFlow Lite), behind one interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.devices import usable_cores
from clip_feature_codec.errors import ModelError
from clip_feature_codec.extras import extra

SUFFIXES = (".onnx", ".tflite")


@dataclass(frozen=True)
class Input:
    """What a network takes.

    Attributes:
        shape: of a batch; None where the file leaves a side open.
        dtype: of its values.
        scale, zero: a quantised value q stands for (q - zero) scale; scale is 0 where nothing is quantised.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero: int = 0


class Runtime(Protocol):
    """A network ready to run.

    Attributes:
        input: what it takes.
    """

    input: Input

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The network's first output (N, ...) for a batch of the form of ``input``."""
        ...


def load_runtime(path: Path) -> Runtime:
    """Load a network by the ending of its name: ``.onnx`` or ``.tflite``.

    Raises:
        ModelError: the file is none of that format.
        MissingExtraError: the package that runs it is missing.
    """
    kind = OnnxRuntime if path.suffix.lower() == ".onnx" else LiteRtRuntime
    with extra("eval", str(path)):
        try:
            return kind(path)
        except ModuleNotFoundError:
            raise
        except Exception as error:  # over a damaged file both programs raise nearly anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f"{path}: cannot be loaded as {path.suffix}: {reason}") from error


class OnnxRuntime:
    """An ONNX file, run by onnxruntime on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        options.log_severity_level = 3  # errors alone
        self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        taken = self._session.get_inputs()[0]
        shape = tuple(side if isinstance(side, int) and side > 0 else None for side in taken.shape)
        self._name = taken.name
        self.input = Input(shape, _dtype_of(taken.type))

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """See `Runtime`."""
        return np.asarray(self._session.run(None, {self._name: batch})[0], np.float32)


class LiteRtRuntime:
    """A LiteRT (TensorFlow Lite) file, run by ai-edge-litert on the CPU."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter: Any = Interpreter(model_path=str(path), num_threads=usable_cores())
        self._interpreter.allocate_tensors()
        taken, self._output = (
            details[0]
            for details in (self._interpreter.get_input_details(), self._interpreter.get_output_details())
        )
        self._index = taken["index"]
        signature: Sequence[int] = taken.get("shape_signature", taken["shape"])
        shape = tuple(int(side) if side > 0 else None for side in signature)
        scale, zero = taken["quantization"]
        self.input = Input(shape, np.dtype(taken["dtype"]), float(scale), int(zero))

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """See `Runtime`."""
        if self.input.shape[0] is None:
            self._interpreter.resize_tensor_input(self._index, batch.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._index, batch)
        self._interpreter.invoke()
        found: NDArray[Any] = self._interpreter.get_tensor(self._output["index"])
        scale, zero = self._output["quantization"]
        return np.asarray((found.astype(np.float32) - zero) * scale if scale else found, np.float32)


def _dtype_of(kind: str) -> np.dtype[Any]:
    """The type of ``tensor(float)`` and the like. Raises KeyError for one that pictures cannot have."""
    names = {"float": "float32", "float16": "float16", "double": "float64", "uint8": "uint8", "int8": "int8"}
    return np.dtype(names[kind.removeprefix("tensor(").removesuffix(")")])
