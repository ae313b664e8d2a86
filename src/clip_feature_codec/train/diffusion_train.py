"""The training loop of the diffusion decoder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from clip_feature_codec.extras import extra

with extra("train", "training"):
    import torch
    from accelerate import Accelerator

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.checkpoint import load_decoder, save_decoder
from clip_feature_codec.decoders.diffusion import DiffusionDecoder
from clip_feature_codec.devices import autocast_dtype, pick_device
from clip_feature_codec.embed import differentiable_embedder_for
from clip_feature_codec.errors import ConfigError, StoreError
from clip_feature_codec.images import MAX_PIXELS
from clip_feature_codec.names import DECODER_FILE
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.manifest import IF_MOVED
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.train.cache import PictureCache
from clip_feature_codec.train.config import TrainConfig
from clip_feature_codec.train.dataset import PairDataset, Pool, StoreDataset
from clip_feature_codec.train.loop import Loop
from clip_feature_codec.train.losses import ImageEncoder
from clip_feature_codec.train.monitor import Monitor
from clip_feature_codec.train.order import BatchOrder, split
from clip_feature_codec.train.state import TrainingState

logger = logging.getLogger(__name__)


def train_diffusion(
    store_dir: Path,
    *,
    device: str = "cuda",
    clip: ImageEncoder | None = None,
    model: str | None = None,
    pretrained: str | None = None,
    init: Path | None = None,
    restart: bool = False,
    max_pixels: int = MAX_PIXELS,
    cache: Path | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Path:
    """Train a decoder on a store's pictures and streams; a training that was interrupted goes on.

    Args:
        store_dir: a store that encoding has written; the originals must still be in their places.
        device: ``cuda``, ``cpu``, ``mps`` or ``auto``.
        clip: the store's CLIP model where it is loaded already; otherwise it is found by its name.
        model: where to find it instead, where it has moved.
        pretrained: the same for its weights.
        init: a decoder of the same CLIP space to begin with; one that takes no layouts learns to when
            ``layout`` is set. A training that goes on has its own weights.
        restart: forget an earlier training in this store.
        max_pixels: pictures with more pixels are left out, like those that cannot be read.
        cache: a folder that keeps pictures at ``out_size``, so that each is decoded once.
        progress: told of the pictures of all steps, as the stage ``training``.
        **options: the fields of `TrainConfig`: ``out_size``, ``epochs``, ``batch_size`` and so on.

    Returns:
        The trained decoder, ``diffusion_unet_final.pt`` in the store.

    Raises:
        ConfigError: an option makes no sense, or differs from the training that would go on.
        StoreError: the store is unusable, or none of its pictures is there any more.
    """
    config = TrainConfig.from_dict(options)
    # Before the store is read: a missing device is refused at once, and of several GPUs, the CLIP model
    # goes to this process's own.
    accelerator = _accelerator(device)
    store = open_store(store_dir)
    space = store.codec.space
    if config.clip_w and clip is None:
        clip = differentiable_embedder_for(space, str(accelerator.device), model, pretrained)
    kept = None if cache is None else PictureCache(cache, config.out_size)
    dataset = StoreDataset(store, config.out_size, config.layout, max_pixels, kept)
    return fit(dataset, space, config, store_dir, device, clip, init=init, restart=restart, progress=progress)


def fit(
    dataset: PairDataset,
    space: ClipSpace,
    config: TrainConfig,
    out_dir: Path,
    device: str = "auto",
    clip: ImageEncoder | None = None,
    *,
    init: Path | None = None,
    restart: bool = False,
    progress: Progress = silent,
) -> Path:
    """Train a decoder on pictures and their conditions (see `train_diffusion`); give its file.

    Everything but the result lies in ``out_dir/train``: the checkpoint ``state.pt``, ``logs`` for
    TensorBoard, ``samples``. Started by ``accelerate launch`` or ``torchrun``, all processes share the work.

    Args:
        dataset: examples with pictures of ``out_size``, vectors of ``space.dim`` numbers and, where
            ``config.layout`` asks for them, layouts of that side.
        space: of the vectors.
        config: the options.
        out_dir: takes the result and the folder ``train``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        clip: frozen encoder for the CLIP loss; needed when ``config.clip_w`` is above 0.
        init: a decoder to begin with.
        restart: forget an earlier training in this folder.
        progress: told of the pictures of all steps.
    """
    accelerator = _accelerator(device)
    clip = _checked_encoder(clip, space, config)
    parts = split(len(dataset), config.val_fraction, config.seed)
    learned, held_back = (Pool(dataset, part) for part in parts)
    _check_pairs(learned, space, config)
    per_step = accelerator.num_processes * config.accumulate
    order = BatchOrder(len(learned), config.batch_size, per_step, config.seed)
    start = None if init is None else load_decoder(init)
    state = TrainingState.initial(config, space, dataset.fingerprint, per_step, accelerator.device, start)
    return _train(accelerator, state, order, learned, held_back, clip, out_dir, restart, progress)


def _train(
    accelerator: Accelerator,
    state: TrainingState,
    order: BatchOrder,
    learned: Pool,
    held_back: Pool,
    clip: ImageEncoder | None,
    out_dir: Path,
    restart: bool,
    progress: Progress,
) -> Path:
    """Bring the state to its last step, going on from a checkpoint if there is one, and save the decoder."""
    config = state.config
    last_step = order.last_step(config.epochs, config.max_steps)
    checkpoint, final = out_dir / "train" / "state.pt", out_dir / DECODER_FILE
    if restart:
        checkpoint.unlink(missing_ok=True)
    elif checkpoint.exists():
        state.load(checkpoint)
        logger.info("going on after step %d of %d (%s)", state.step, last_step, checkpoint)
    if state.step < last_step:
        loop = Loop(accelerator, state, learned, order, clip)
        watching: AbstractContextManager[Monitor | None] = nullcontext()
        if accelerator.is_main_process:
            watching = Monitor(
                checkpoint.parent,
                config,
                train=learned,
                held_back=held_back,
                images_per_step=config.batch_size * order.per_step,
                first_step=state.step,
                last_step=last_step,
                progress=progress,
            )
        with _tf32(), watching as monitor:
            loop.run(last_step, checkpoint, monitor)
    elif final.exists():
        return final
    if accelerator.is_main_process:
        decoder = DiffusionDecoder(state.decoder, config.build_scheduler(), state.space, config.out_size)
        save_decoder(final, decoder, extra={"training": config.to_dict(), "steps": state.step})
    accelerator.wait_for_everyone()
    return final


def _accelerator(device: str) -> Accelerator:
    chosen = pick_device(device)
    if chosen.index is not None:
        torch.cuda.set_device(chosen)
    precision = "no" if autocast_dtype(chosen) is None else "bf16"
    try:
        accelerator = Accelerator(cpu=chosen.type == "cpu", mixed_precision=precision)
    except ValueError:  # accelerate settles the device once per process
        accelerator = None
    if accelerator is None or accelerator.device.type != chosen.type:
        raise ConfigError(f"this process has trained on another device than {device!r}: start a new one")
    return accelerator


def _checked_encoder(clip: ImageEncoder | None, space: ClipSpace, config: TrainConfig) -> ImageEncoder | None:
    if not config.clip_w:
        return None
    if clip is None:
        raise ConfigError(f"clip_w is {config.clip_w}, but there is no CLIP model: give one, or clip_w=0")
    space.require_same(clip.space, "the CLIP model of the loss")
    return clip


def _check_pairs(pool: Pool, space: ClipSpace, config: TrainConfig) -> None:
    if not len(pool):
        raise StoreError(
            "there are no pictures to train on: none was given, or none is where it was encoded; "
            f"if one has moved, {IF_MOVED}"
        )
    image, vectors, layouts = pool[0][0]
    expected = ((3, config.out_size, config.out_size), (space.dim,))
    if (tuple(image.shape), tuple(vectors.shape[1:])) != expected:
        found = f"{tuple(image.shape)} with vectors {tuple(vectors.shape[1:])}"
        raise ConfigError(f"the data's pictures are {found}: expected {expected[0]} with {expected[1]}")
    if config.layout and (not len(layouts) or layouts.shape[-1] != config.layout):
        found = f"of {layouts.shape[-1]} pixels a side" if len(layouts) else "none"
        raise ConfigError(
            f"the data's layouts are {found}: expected {config.layout} (training option layout)"
        )


@contextmanager
def _tf32() -> Iterator[None]:
    """TensorFloat-32 for float32 matrix products on GPUs that have it; elsewhere this changes nothing."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
