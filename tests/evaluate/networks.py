"""Classifiers of three classes, the mean levels of red, green and blue, as ONNX and LiteRT files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

LABELS = "red\ngreen, lime\nblue\n"


def write_onnx(
    path: Path,
    shape: tuple[object, ...] = ("N", 3, 8, 8),
    dtype: str = "FLOAT",
    background: bool = False,
) -> Path:
    """Pools what it is given over both sides; ``background`` puts a class that is never likely before."""
    from onnx import TensorProto, helper, save

    kind = getattr(TensorProto, dtype)
    sides = [2, 3] if shape[1] == 3 else [1, 2]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=sides, keepdims=0),
    ]
    if background:
        nodes[-1].output[0] = "three"
        nodes.append(helper.make_node("Pad", ["three", "pads", "least"], ["means"]))
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info("means", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("pads", TensorProto.INT64, [4], [0, 1, 0, 0]),
            helper.make_tensor("least", TensorProto.FLOAT, [], [-1e6]),
        ],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def write_tflite(path: Path, side: int = 8, quantised: bool = True) -> Path:
    """Pools (1, side, side, 3) over both sides, in 8 bits or in floats."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, *shape: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape = name, list(shape)
        made.type = schema.TensorType.UINT8 if quantised else schema.TensorType.FLOAT32
        if quantised:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [1 / 128], [128]
        return made

    def operator(code: int, kind: int, options: Any, taken: int, given: int) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, [taken], [given]
        made.builtinOptionsType, made.builtinOptions = kind, options
        return made

    pool, reshape = schema.Pool2DOptionsT(), schema.ReshapeOptionsT()
    pool.padding = schema.Padding.VALID
    pool.strideW = pool.strideH = pool.filterWidth = pool.filterHeight = side
    reshape.newShape = [1, 3]
    graph = schema.SubGraphT()
    graph.tensors = [tensor("pixels", 1, side, side, 3), tensor("pooled", 1, 1, 1, 3), tensor("means", 1, 3)]
    graph.inputs, graph.outputs = [0], [2]
    graph.operators = [
        operator(0, schema.BuiltinOptions.Pool2DOptions, pool, 0, 1),
        operator(1, schema.BuiltinOptions.ReshapeOptions, reshape, 1, 2),
    ]
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    model.operatorCodes = []
    for code in (schema.BuiltinOperator.AVERAGE_POOL_2D, schema.BuiltinOperator.RESHAPE):
        one = schema.OperatorCodeT()
        one.builtinCode, one.deprecatedBuiltinCode, one.version = code, code, 1
        model.operatorCodes.append(one)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def describe(network: Path, **entries: object) -> Path:
    """Write the TOML file of a network's name beside it; lists and texts are written alike in TOML."""
    lines = [
        f"{key} = {str(value)!r}" if isinstance(value, str) else f"{key} = {value}"
        for key, value in entries.items()
    ]
    path = network.with_suffix(".toml")
    path.write_text("\n".join(lines))
    return path


def labels(folder: Path, text: str = LABELS) -> Path:
    path = folder / "labels.txt"
    path.write_text(text, "utf-8")
    return path


def means(picture: np.ndarray) -> np.ndarray:
    """What these networks compute, of levels (H, W, 3)."""
    return picture.astype(np.float64).mean((0, 1))
