"""Our own kind of decoder as ONNX graphs, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.container import content_digest, read_container, read_facts
from clip_feature_codec.decoders.painting import DiffusionPainting
from clip_feature_codec.diffusion.arrays import bicubic
from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.graphs import Graph, Graphs
from clip_feature_codec.names import UNET_GRAPH, UPSAMPLER_GRAPH


class GraphDenoiser:
    """A U-Net as a graph: a `samplers.Denoiser`.

    Args:
        graph: takes x_t, vectors, timesteps and, if the U-Net does, layouts.
        layout_side: of the layouts; 0 for none.
    """

    def __init__(self, graph: Graph, layout_side: int) -> None:
        self._graph, self._side = graph, layout_side

    def array(self, values: Any) -> NDArray[np.float32]:
        """Numbers as float32."""
        return np.asarray(values, np.float32)

    def __call__(
        self,
        x: NDArray[np.float32],
        z: NDArray[np.float32],
        t: int,
        layout: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """The U-Net's output, in the shape of x."""
        inputs: list[NDArray[Any]] = [x, z, np.full(len(x), t, np.int64)]
        if self._side:  # zeros are no layout
            none = (len(x), 4, self._side, self._side)
            inputs.append(np.zeros(none, np.float32) if layout is None else layout)
        (output,) = self._graph(*inputs)
        return output


class GraphDecoder(DiffusionPainting[NDArray[np.float32]]):
    """A decoder of `checkpoint.save_decoder`'s whose networks are there as graphs.

    Args:
        graphs: those beside the decoder's file.

    Raises:
        ModelError: the file is not the one that the graphs were made with.
    """

    def __init__(self, graphs: Graphs) -> None:
        self._file = graphs.weights
        facts = read_facts(self._file)
        self.scheduler = NoiseScheduler.from_config(facts["scheduler"])
        self.space = ClipSpace.from_json(facts["space"])
        self.image_size: int = facts["image_size"]
        self._config = UNetConfig(**facts["unet"])
        self._denoiser = GraphDenoiser(graphs.open(UNET_GRAPH), self._config.layout)
        self._upsampler = graphs.open(UPSAMPLER_GRAPH) if facts["upsampler"] else None
        self._told = "dim" in facts["upsampler"]  # of vectors

    @property
    def unet_config(self) -> UNetConfig:
        """What the U-Net was built from."""
        return self._config

    @property
    def denoiser(self) -> GraphDenoiser:
        """The U-Net, for `samplers.sample`."""
        return self._denoiser

    def enlarged(self, canvases: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Let the upsampler enlarge canvases (N, 3, S, S) in [-1, 1], if there is one, by what (N, D) say."""
        if self._upsampler is None:
            return canvases
        (detail,) = self._upsampler(canvases, *([vectors] if self._told else []))
        return bicubic(canvases, detail.shape[-2:]) + detail

    def identity(self) -> str:
        """See `protocol.Decoder`; the same as on torch."""
        content = read_container(self._file)
        parts = {"unet": content["weights"], "upsampler": content["upsampler_weights"]}
        weights = {
            f"{part}.{name}": value.astype(np.float32)
            for part, values in parts.items()
            for name, value in values.items()
        }
        configuration = {name: content[name] for name in ("scheduler", "image_size", "upsampler")}
        return content_digest(configuration | {"unet": self._config.to_json()}, weights)
