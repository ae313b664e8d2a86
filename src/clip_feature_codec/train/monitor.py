"""What a person sees of a running training: progress, log, validation loss, sample grids."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clip_feature_codec.diffusion.denoiser import TorchDenoiser
from clip_feature_codec.diffusion.noise import noise_generators
from clip_feature_codec.diffusion.plans import sampling_plan
from clip_feature_codec.diffusion.samplers import sample
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.errors import ImageError
from clip_feature_codec.images import save_image, to_pictures
from clip_feature_codec.progress import Progress
from clip_feature_codec.train.config import TrainConfig
from clip_feature_codec.train.dataset import Pool
from clip_feature_codec.train.order import derived_generator

logger = logging.getLogger(__name__)

_VALIDATED = 256  # pictures at most, so that a validation takes seconds however large the store
_SHOWN = 8
_SAMPLING_STEPS = 8


@dataclass(frozen=True)
class Pairs:
    """Pictures with the first version of each condition, kept in memory.

    Attributes:
        images: (N, 3, S, S) in [-1, 1].
        vectors: (N, D).
        layouts: (N, 4, s, s); None in a training without them.
    """

    images: Tensor
    vectors: Tensor
    layouts: Tensor | None

    @classmethod
    def read(cls, pool: Pool, limit: int, config: TrainConfig) -> tuple[Pairs | None, list[str]]:
        """Read the first ``limit`` examples of a pool, without those that fail, and why these did."""
        examples, failures = [], []
        for index in pool.indices[:limit]:
            try:
                examples.append(pool.dataset[int(index)])
            except ImageError as error:
                failures.append(str(error))
        if not examples:
            return None, failures
        images, vectors, layouts = (torch.stack(part) for part in zip(*examples, strict=True))
        first_layouts = layouts[:, 0] if config.layout else None
        return cls(images.float() / 127.5 - 1, vectors[:, 0], first_layouts), failures


@torch.no_grad()
def validation_loss(
    unet: CLIPCondUNet, scheduler: NoiseScheduler, pairs: Pairs, config: TrainConfig
) -> float:
    """Mean squared error on the scheduler's target, with timesteps and noise that are the same every time.

    The timesteps are spread evenly over the schedule, which tells two states of a network apart with far
    fewer pictures than random ones would.
    """
    count = len(pairs.images)
    device = next(unet.parameters()).device
    times = ((torch.arange(count) + 0.5) * scheduler.timesteps / count).long()
    generator = derived_generator(config.seed, "validation")
    total = 0.0
    for start in range(0, count, config.batch_size):
        rows = slice(start, start + config.batch_size)
        x0 = pairs.images[rows].to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        t, z = times[rows].to(device), pairs.vectors[rows].to(device)
        layout = None if pairs.layouts is None else pairs.layouts[rows].to(device)
        y = unet.residual(layout, x0.shape[-2:]).of(x0)
        output = unet(scheduler.q_sample(y, t, noise), z, t, layout)
        total += F.mse_loss(output, scheduler.target(y, noise, t)).item() * len(x0)
    return total / count


def sample_grid(unet: CLIPCondUNet, scheduler: NoiseScheduler, pairs: Pairs, seed: int) -> Image.Image:
    """One picture: the originals in a row, and below each what is painted from its conditions."""
    size = pairs.images.shape[-1]
    model = TorchDenoiser(unet)
    layouts = None if pairs.layouts is None else model.array(pairs.layouts)
    painted = sample(
        model,
        sampling_plan("dpm-solver++", scheduler, min(_SAMPLING_STEPS, scheduler.timesteps)),
        pairs.vectors,
        size=size,
        layout=layouts,
        residual=unet.residual(layouts, (size, size)),
        generators=noise_generators(seed, [b"%d" % column for column in range(len(pairs.vectors))]),
    )
    grid = Image.new("RGB", (size * len(pairs.images), 2 * size))
    for row, pictures in enumerate((to_pictures(pairs.images), to_pictures(painted))):
        for column, picture in enumerate(pictures):
            grid.paste(picture, (column * size, row * size))
    return grid


class Monitor:
    """Reports on a training from its main process; a context, since it keeps a log open.

    Args:
        folder: takes ``logs`` (TensorBoard) and ``samples`` (PNG).
        config: of the training.
        train: the pictures it learns from; the sample grid shows some when none are held back.
        held_back: pictures for the validation loss; may be empty.
        images_per_step: of all processes.
        first_step: where this run begins; later entries of an earlier one are dropped from the log.
        last_step: where it will end.
        progress: told of the pictures of all steps, as the stage ``training``.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        *,
        train: Pool,
        held_back: Pool,
        images_per_step: int,
        first_step: int,
        last_step: int,
        progress: Progress,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.folder = folder
        self.config = config
        self.scheduler = config.build_scheduler()
        self.held_back, failures = Pairs.read(held_back, _VALIDATED, config)
        for failure in failures:
            logger.warning("a held-back picture is left out of the validation: %s", failure)
        self.shown, _ = Pairs.read(held_back if self.held_back else train, _SHOWN, config)
        self.images_per_step = images_per_step
        self.writer = SummaryWriter(str(folder / "logs"), purge_step=first_step + 1)
        self._progress, self._total = progress, last_step * images_per_step
        self.stepped(first_step)
        self._logged_step, self._logged_at = first_step, time.perf_counter()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.writer.close()

    def stepped(self, step: int) -> None:
        """Tell that so many optimizer steps are done."""
        self._progress("training", step * self.images_per_step, self._total)

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """Write the mean losses since the last entry, and the speed, to the log."""
        now = time.perf_counter()
        speed = (step - self._logged_step) * self.images_per_step / (now - self._logged_at)
        self._logged_step, self._logged_at = step, now
        scalars = {f"loss/{name}": value for name, value in losses.items()}
        self._write(step, {**scalars, "learning_rate": learning_rate, "images_per_second": speed})

    def look(self, step: int, unet: CLIPCondUNet) -> None:
        """Validate, and paint a sample grid, with the averaged weights."""
        if self.held_back is not None:
            loss = validation_loss(unet, self.scheduler, self.held_back, self.config)
            self._write(step, {"loss/validation": loss})
            logger.info("step %d: validation loss %.4f", step, loss)
        if self.shown is not None:
            grid = sample_grid(unet, self.scheduler, self.shown, self.config.seed)
            save_image(grid, self.folder / "samples" / f"step-{step:06d}.png")

    def _write(self, step: int, scalars: dict[str, float]) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
