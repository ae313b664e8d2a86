"""One process's share of the training: its batches, its steps, and what happens every so many of them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError
from clip_feature_codec.train.config import TrainConfig
from clip_feature_codec.train.dataset import Batch, Pool, collate
from clip_feature_codec.train.losses import ImageEncoder, decoder_losses
from clip_feature_codec.train.monitor import Monitor
from clip_feature_codec.train.order import BatchOrder, ProcessBatches, derived_generator
from clip_feature_codec.train.state import TrainingState

logger = logging.getLogger(__name__)


def learning_rate(config: TrainConfig, step: int, last_step: int) -> float:
    """Of the step after ``step`` steps: linear warm-up (Goyal et al. 2017, section 2.2), linear cool-down."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cool = min(1.0, (last_step - step) / max(1, config.cooldown_steps))
    return config.lr * warm * cool


class Loop:
    """Brings a `TrainingState` forward.

    Args:
        accelerator: of this process.
        state: where the training is; its ``unet`` is on the accelerator's device.
        pool: the pictures to learn from.
        order: in which order.
        clip: frozen encoder, or None when ``clip_w`` is 0.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        state: TrainingState,
        pool: Pool,
        order: BatchOrder,
        clip: ImageEncoder | None,
    ) -> None:
        self.accelerator = accelerator
        self.state = state
        self.config = state.config
        self.pool = pool
        self.order = order
        self.clip = clip
        self.scheduler = self.config.build_scheduler()
        self.wrapped: nn.Module = accelerator.prepare(state.unet)
        # The state keeps the plain network, whose names in the checkpoint are thus always the same.
        self.network = torch.compile(self.wrapped) if self.config.compile else self.wrapped
        self._reported: set[str] = set()

    def run(self, last_step: int, checkpoint: Path, monitor: Monitor | None) -> None:
        """Train up to ``last_step``; ``monitor`` is there in the main process only, which also saves.

        Raises:
            ConfigError: the training diverged.
            StoreError: none of the pictures can be read any more.
        """
        state, config = self.state, self.config
        batches = self._batches(last_step)
        sums: defaultdict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.accelerator.device))
        logged = state.step
        while state.step < last_step:
            rate = learning_rate(config, state.step, last_step)
            losses, norm = self._step(batches, rate)
            for name, value in losses.items():
                sums[name] += value
            step, last = state.step, state.step == last_step
            saves = last or step % config.checkpoint_every == 0
            logs = last or step % config.log_every == 0
            if saves or logs:
                self._require_finite(norm, checkpoint)
            if monitor is None:
                continue
            monitor.stepped(state.step)
            if logs:
                means = {name: value.item() / (step - logged) for name, value in sums.items()}
                monitor.log(step, means, rate)
                sums.clear()
                logged = step
            if config.sample_every and (last or step % config.sample_every == 0):
                monitor.look(step, state.decoder)
            if saves:
                state.save(checkpoint)

    def _step(self, batches: Iterator[Batch], rate: float) -> tuple[dict[str, Tensor], Tensor]:
        """One optimizer step; gives the mean losses of this process and the gradient's norm, all scalars."""
        state, config = self.state, self.config
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.zero_grad(set_to_none=True)
        means: defaultdict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.accelerator.device))
        for turn in range(config.accumulate):
            number = state.step * self.order.per_step + turn * self.accelerator.num_processes
            batch = next(batches)
            alone = turn < config.accumulate - 1  # gradients are averaged over the processes once a step
            with self.accelerator.no_sync(self.wrapped) if alone else nullcontext():
                losses = self._losses(batch, number + self.accelerator.process_index)
                self.accelerator.backward(losses["total"] / config.accumulate)
            for name, value in losses.items():
                means[name] += value.detach() / config.accumulate
        norm: Tensor = self.accelerator.clip_grad_norm_(state.unet.parameters(), config.grad_clip)
        state.optimizer.step()
        state.average.update_parameters(state.unet)
        state.step += 1
        return means, norm

    def _losses(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """The losses (scalars) of batch ``number`` of a training; the number decides all that is random."""
        images, vectors, layouts, failures = batch
        self._report(failures)
        device = self.accelerator.device
        x0 = images.to(device, non_blocking=True).float() / 127.5 - 1
        generator = derived_generator(self.config.seed, "batch", number, device)
        rows = (len(x0),)
        t = torch.randint(self.scheduler.timesteps, rows, generator=generator, device=device)
        noise = torch.randn(x0.shape, generator=generator, device=device)
        kept = torch.rand(rows, generator=generator, device=device) >= self.config.cond_dropout
        z = _drawn(vectors.to(device, non_blocking=True), generator)
        layout = None
        if self.config.layout:
            shown = torch.rand(rows, generator=generator, device=device) >= self.config.layout_dropout
            layout = _drawn(layouts.to(device, non_blocking=True), generator)
            layout = layout * shown[:, None, None, None]
        residual = self.state.unet.residual(layout, x0.shape[-2:])
        x_t = self.scheduler.q_sample(residual.of(x0), t, noise)
        output = self.network(x_t, z * kept[:, None], t, layout)
        with self.accelerator.autocast():
            return decoder_losses(
                output,
                x0=x0,
                x_t=x_t,
                residual=residual,
                noise=noise,
                t=t,
                z=z,
                scheduler=self.scheduler,
                config=self.config,
                clip=self.clip,
            )

    def _batches(self, last_step: int) -> Iterator[Batch]:
        sampler = ProcessBatches(
            self.order,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            first_step=self.state.step,
            last_step=last_step,
        )
        loader = DataLoader(
            self.pool,
            batch_sampler=sampler,
            num_workers=self.config.workers,
            collate_fn=collate,
            pin_memory=self.accelerator.device.type == "cuda",
            generator=torch.Generator(),  # else the loader would draw from the global one
        )
        try:
            yield from loader
        except (StoreError, BitstreamError) as error:
            # One that comes from a worker brings its traceback in the message.
            kind = type(error)
            raise kind(str(error).rstrip().rpartition(f"{kind.__name__}: ")[2]) from error

    def _report(self, failures: list[str]) -> None:
        for failure in failures:
            if failure not in self._reported:
                self._reported.add(failure)
                logger.warning("another picture takes the place of one that cannot be read: %s", failure)

    def _require_finite(self, norm: Tensor, checkpoint: Path) -> None:
        # The norm is that of the averaged gradient, so that all processes stop together; and once the
        # weights are not finite, neither is any gradient after that.
        if not norm.isfinite():
            raise ConfigError(
                f"the training diverged before step {self.state.step} (gradient norm {norm.item()}): "
                f"lower lr ({self.config.lr}); the last checkpoint, if any, is {checkpoint}"
            )


def _drawn(versions: Tensor, generator: torch.Generator) -> Tensor:
    """One version of each row: (N, V, ...) to (N, ...), all equally likely."""
    count, choices = versions.shape[:2]
    chosen = torch.randint(choices, (count,), generator=generator, device=versions.device)
    return versions[torch.arange(count, device=versions.device), chosen]
