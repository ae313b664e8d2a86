"""Networks as ONNX graphs that lie beside their weights, run by ONNX Runtime on the CPU.

A graph has no weights of its own: it points into the safetensors file that it was exported with, which torch
reads, too. ``graphs.json`` in the same folder holds the SHA-256 of all files that belong together, so that a
graph never runs with other weights than its own, and plain facts about the networks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.devices import is_cpu, usable_threads
from clip_feature_codec.errors import ModelError
from clip_feature_codec.files import file_sha256, write_atomic
from clip_feature_codec.lazy import lazy
from clip_feature_codec.names import GRAPHS_FILE

_FORMAT = {"format": "clip-feature-codec graphs", "version": 1}


class Graph:
    """One network, loaded.

    Args:
        path: the ``.onnx`` file.

    Raises:
        ModelError: it is no graph, or ONNX Runtime cannot run it.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_threads()
        options.log_severity_level = 3  # errors: they are raised as well
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        except Exception as error:  # over bad files, it raises a dozen classes of its own
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{path} cannot be run by ONNX Runtime: {reason}") from error
        self._session = session
        self._inputs = [given.name for given in session.get_inputs()]

    def __call__(self, *inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run the network on its inputs, in its own order; what it gives, in its own order."""
        found: list[NDArray[np.float32]] = self._session.run(
            None, dict(zip(self._inputs, inputs, strict=True))
        )
        return found


class Graphs:
    """The graphs in a folder.

    Attributes:
        facts: what the exporter wrote down of the networks, JSON-able.

    Raises:
        ModelError: ``graphs.json`` cannot be read or is of another version.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / GRAPHS_FILE
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read: {error}") from error
        if not isinstance(content, dict) or not content.items() >= _FORMAT.items():
            raise ModelError(f"{path}: not a list of graphs that this version of the program knows")
        self._weights: str = content["weights"]
        self._digests: dict[str, str] = content["sha256"]
        self.facts: dict[str, Any] = content["facts"]

    @classmethod
    def find(cls, weights: Path, device: str) -> Graphs | None:
        """Find the graphs that networks run as: on the CPU, where they lie beside the weights; else None.

        This is the one rule for what runs on ONNX Runtime and what on torch.

        Args:
            weights: the file of the networks' weights, or the folder that it is in.
            device: see `devices.pick_device`.
        """
        folder = weights if weights.is_dir() else weights.parent
        if not (folder / GRAPHS_FILE).is_file() or not is_cpu(device):
            return None
        graphs = cls(folder)
        return graphs if weights == folder or weights.name == graphs._weights else None

    @classmethod
    def describe(cls, weights: Path, files: Sequence[str], facts: Mapping[str, Any]) -> None:
        """Write ``graphs.json``, for files that have just been made from each other.

        Args:
            weights: the file with the weights of all graphs.
            files: the names of the graphs, and of what else belongs to them, in the same folder.
            facts: JSON-able, for whoever loads the graphs.
        """
        digests = {name: file_sha256(weights.with_name(name)) for name in (weights.name, *files)}
        content = _FORMAT | {"weights": weights.name, "sha256": digests, "facts": facts}
        write_atomic(weights.with_name(GRAPHS_FILE), json.dumps(content, indent=1).encode() + b"\n")

    @lazy
    def weights(self) -> Path:
        """The file with the weights (see `file`)."""
        return self.file(self._weights)

    def file(self, name: str) -> Path:
        """One of the files, with what was in it when the graphs were made.

        Raises:
            ModelError: it is gone, or has changed since then.
        """
        path = self._folder / name
        try:
            found = file_sha256(path)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error
        if found != self._digests.get(name):
            raise ModelError(
                f"{path} is not the file that the graphs beside it were made with: export them again, "
                f"or delete {GRAPHS_FILE} to run on torch"
            )
        return path

    def open(self, name: str) -> Graph:
        """Load one of the graphs.

        Raises:
            ModelError: it or its weights are gone or have changed, or it cannot be run.
        """
        _ = self.weights
        return Graph(self.file(name))
