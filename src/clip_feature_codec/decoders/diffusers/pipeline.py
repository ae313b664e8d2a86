"""What all decoders that are pipelines of diffusers have in common."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import diffusers
import numpy as np
import torch
from PIL import Image

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.conditions import Conditions
from clip_feature_codec.decoders.diffusers.files import digest_of, part_files
from clip_feature_codec.decoders.diffusers.memory import MemoryPlan, Portions
from clip_feature_codec.decoders.options import PaintOptions, Sampling
from clip_feature_codec.diffusion.noise import noise_seeds
from clip_feature_codec.embed.transformers.quiet import quiet_transformers
from clip_feature_codec.embed.transformers.source import TowerSource
from clip_feature_codec.errors import CheckpointError, ConfigError

MOST_STRENGTH = 0.8
"""How much of a layout sampling may paint over, at fidelity 0: SDEdit's strength (Meng et al. 2022)."""

_SAMPLERS = {"dpm-solver++": diffusers.DPMSolverMultistepScheduler, "ddim": diffusers.DDIMScheduler}


@dataclass(frozen=True)
class PipelineFiles:
    """A pipeline that has been found and is ready to be loaded.

    Attributes:
        folder: what ``save_pretrained`` wrote.
        adapter: the file of an IP-Adapter, where one was added.
        tower: the image tower whose embeddings it takes.
        space: of that tower.
        device: where it is to run.
        memory: how.
        variant: of the files with weights, as diffusers calls it; None: those without one.
    """

    folder: Path
    adapter: Path | None
    tower: TowerSource
    space: ClipSpace
    device: torch.device
    memory: MemoryPlan
    variant: str | None = None


@dataclass(frozen=True)
class Request:
    """N pictures that a pipeline is to paint in one call.

    Attributes:
        embeds: image embeddings (N, D), as long as the image tower makes them, on the pipeline's device.
        steps: evaluations of its network.
        guidance: classifier-free guidance.
        eta: see `PaintOptions`.
        generators: of noise, one for each picture.
        beginnings: pictures of the canvas's size that sampling begins with; None: with noise.
        strength: how much of these is painted over; 1 without them.
    """

    embeds: torch.Tensor
    steps: int
    guidance: float
    eta: float
    generators: list[torch.Generator]
    beginnings: list[Image.Image] | None = None
    strength: float = 1.0

    def __len__(self) -> int:
        return len(self.embeds)


class PipelineDecoder(ABC):
    """A pipeline with all that is needed to use it; a `protocol.Decoder`.

    Subclasses say which pipelines they know, load them, and call them.

    Attributes:
        space: the CLIP space of the image tower that the pipeline was trained with.
        pipelines: of diffusers, which share their parts.
        image_size: see `protocol.Decoder`.
        own_scheduler: that which comes with the pipeline.
    """

    parts: ClassVar[tuple[str, ...]]
    """What of the folder is loaded."""
    takes_layouts: ClassVar[bool] = True
    """Whether its sampling can begin with a picture."""
    takes_samplers: ClassVar[bool] = True
    """Whether another sampler than the folder's may be taken."""
    at_once: ClassVar[int | None] = None
    """Pictures that it can paint in one call; None: any number."""
    half: ClassVar[torch.dtype] = torch.float16
    """Its half precision."""
    slices_attention: ClassVar[bool] = True
    """Whether its attention can work on a part at a time."""

    def __init__(self, files: PipelineFiles, *pipelines: Any, image_size: int) -> None:
        self.space = files.space
        self.pipelines = pipelines
        self.image_size = image_size
        self.own_scheduler = pipelines[0].scheduler
        self._files = files
        self._portions = Portions(self.at_once)
        self._on_device: Any = None

    @classmethod
    @abstractmethod
    def load(cls, files: PipelineFiles) -> Self:
        """Load the pipeline's parts."""

    @property
    @abstractmethod
    def usual(self) -> Sampling:
        """See `protocol.Decoder`."""

    @abstractmethod
    def call(self, request: Request) -> list[Image.Image]:
        """Have the pipeline paint: N pictures of the canvas's size."""

    @property
    def layout_side(self) -> int:
        """See `protocol.Decoder`."""
        return self.image_size if self.takes_layouts else 0

    @property
    def has_fidelity(self) -> bool:
        """See `protocol.Decoder`: of a picture that sampling begins with, more or less is kept."""
        return self.takes_layouts

    def identity(self) -> str:
        """See `protocol.Decoder`."""
        files, half = self._files, self._files.variant is not None
        paths = [path for part in self.parts for path in part_files(files.folder, part, half=half)]
        extra = [files.adapter] if files.adapter else []
        facts = f"{type(self).__name__} {files.memory.dtype} {self.space.fingerprint}"
        return digest_of([*paths, *extra], files.folder, facts)

    def paint(
        self, conditions: Conditions, options: PaintOptions, keys: Sequence[bytes]
    ) -> list[Image.Image]:
        """See `protocol.Decoder`.

        Where there is a layout, sampling begins with it (SDEdit): noise covers it to a ``strength``, which is
        `MOST_STRENGTH` at fidelity 0 and goes down to nothing at 1, where the layout itself is shown. There
        are so many timesteps in all that ``steps`` of them are left to be evaluated.
        """
        chosen = options.sampling(self.usual)
        self._check(chosen)
        embeds, layouts = self._embeds(conditions), _layouts(conditions)
        strength = MOST_STRENGTH * (1 - options.fidelity)

        def work(part: Sequence[int]) -> list[Image.Image]:
            begun = part[0] in layouts
            most = strength if begun else 1.0
            chosen_keys = [keys[row] for row in part]
            return self.call(
                Request(
                    embeds[list(part)],
                    self._timesteps(chosen.steps, most),
                    chosen.guidance,
                    options.eta,
                    [torch.Generator().manual_seed(each) for each in noise_seeds(options.seed, chosen_keys)],
                    [layouts[row] for row in part] if begun else None,
                    most,
                )
            )

        painted = layouts
        if int(self._timesteps(chosen.steps, strength) * strength):
            painted = dict(self._portions.work(list(layouts), work))
        rest = [row for row in range(len(keys)) if row not in layouts]
        painted |= self._portions.work(rest, work)
        return [painted[row] for row in range(len(keys))]

    def run(self, pipeline: Any, **arguments: Any) -> Any:
        """Call one of the pipelines, on the device.

        Raises:
            ConfigError: the pipeline cannot do what is asked of it.
        """
        if self._on_device is not pipeline:
            self._on_device = pipeline
            self._put(pipeline)
        try:
            return pipeline(**arguments)
        except ValueError as error:  # how pipelines refuse arguments
            why = " ".join(str(error).split())[:200]
            raise ConfigError(f"{type(pipeline).__name__} cannot paint this: {why}") from error

    def _put(self, pipeline: Any) -> None:
        """Bring a pipeline to its device as its memory plan says."""
        device, memory = self._files.device, self._files.memory
        if memory.offload:
            pipeline.enable_model_cpu_offload(device=device)
        else:
            pipeline.to(device)
        if memory.slices:
            if self.slices_attention:
                pipeline.enable_attention_slicing()
            for part in pipeline.components.values():
                if hasattr(part, "use_slicing"):
                    part.enable_slicing()

    def _check(self, chosen: Sampling) -> None:
        if chosen.sampler and not self.takes_samplers:
            raise ConfigError(
                f"this decoder paints with its own sampler: leave out {chosen.sampler} (and eta)"
            )
        limit = self._most_timesteps
        if chosen.steps > limit:
            raise ConfigError(f"{chosen.steps} sampling steps; this decoder takes 1 to {limit}")
        if self.takes_samplers:
            own = self.own_scheduler
            scheduler = _SAMPLERS[chosen.sampler].from_config(own.config) if chosen.sampler else own
            for pipeline in self.pipelines:
                pipeline.scheduler = scheduler

    @property
    def _most_timesteps(self) -> int:
        """Timesteps that its scheduler can be asked for; those of consistency models know fewer."""
        config = self.own_scheduler.config
        return int(config.get("original_inference_steps") or config.get("num_train_timesteps", 1000))

    def _timesteps(self, steps: int, strength: float) -> int:
        """How many timesteps there must be altogether for ``steps`` to be left of them at a strength."""
        return min(self._most_timesteps, math.ceil(steps / strength - 1e-9)) if strength else 0

    def _embeds(self, conditions: Conditions) -> torch.Tensor:
        """Image embeddings (N, D): the vectors with the length that coding took from them."""
        length = conditions.vector_length
        if length is None and conditions.vectors.any():
            raise ConfigError(
                "this decoder wants vectors as long as its CLIP model makes them, and the streams' tables do "
                "not say how long: take tables fitted on pictures (clip-codec fit PICTURES --model ...)"
            )
        vectors = torch.from_numpy(np.asarray(conditions.vectors * np.float32(length or 0.0)))
        return vectors.to(self._files.device, self._files.memory.dtype)


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """Keep off the terminal what diffusers says of versions, and its bars of loading."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore", FutureWarning)  # ``torch_dtype`` has another name in newer versions
        yield


def load_parts(pipeline_class: Any, files: PipelineFiles, **given: Any) -> Any:
    """Load a pipeline from its folder, with some of its parts given.

    Raises:
        CheckpointError: diffusers cannot load it.
    """
    try:
        with quiet_diffusers():
            pipeline = pipeline_class.from_pretrained(
                files.folder,
                torch_dtype=files.memory.dtype,
                variant=files.variant,
                use_safetensors=True,
                local_files_only=True,
                **given,
            )
    except Exception as error:  # diffusers raises what the damage leads to
        why = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{files.folder}: diffusers cannot load it: {why}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _layouts(conditions: Conditions) -> dict[int, Image.Image]:
    """The layouts as pictures, by their rows."""
    layouts, rows = conditions.layouts, np.flatnonzero(conditions.present).tolist()
    return {} if layouts is None else {row: Image.fromarray(layouts[row]) for row in rows}
