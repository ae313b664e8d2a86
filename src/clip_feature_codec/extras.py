"""What the core does without: which modules come with which extra, and the line that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from clip_feature_codec.errors import MissingExtraError

_CLIP = {"huggingface_hub", "open_clip", "timm", "torch", "torchvision"}
EXTRAS = {
    "clip": _CLIP,
    "diffusers": _CLIP | {"accelerate", "diffusers", "transformers"},
    "lance": {"lance", "lancedb", "pyarrow"},
    "packed": {"pyarrow"},
    "ray": {"pyarrow", "ray"},
    "remote": {"aiohttp", "fsspec", "s3fs"},
    "serve": {"starlette", "uvicorn"},
    "train": _CLIP | {"accelerate", "tensorboard"},
    "eval": _CLIP
    | {"ai_edge_litert", "bjontegaard", "blurhash", "jinja2", "lpips", "matplotlib", "pyarrow"}
    | {"scipy", "skimage", "torchmetrics"},
}
"""The modules that come with each extra of the distribution (see ``pyproject.toml``)."""


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Say which extra is missing, where the block imports one of its modules in vain.

    Args:
        name: of the extra, one of `EXTRAS`.
        what: what needs it, such as ``clip-codec eval``.

    Raises:
        MissingExtraError: a module of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS[name]:
            raise
        raise _missing(name, what, module) from None


def require(name: str, what: str, *modules: str) -> None:
    """Make sure that modules of an extra are installed, before work that would need them at its end.

    Raises:
        MissingExtraError: one is not.
    """
    for module in modules:
        if find_spec(module) is None:
            raise _missing(name, what, module)


def _missing(name: str, what: str, module: str) -> MissingExtraError:
    return MissingExtraError(
        f"{what} needs more than the core ({module}): pip install 'clip-feature-codec[{name}]'"
    )
