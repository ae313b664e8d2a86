"""The hub's own client: its errors as one line each, and sizes as it says them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clip_feature_codec.errors import HubError, reason


class UnreachableError(HubError):
    """The hub cannot be asked."""


@contextmanager
def in_one_line(name: str, revision: str) -> Iterator[None]:
    """Say in one line what the hub's client raises, whatever the library behind it calls it."""
    from huggingface_hub import constants
    from huggingface_hub import errors as client

    place = f"{constants.ENDPOINT}/{name}"
    try:
        yield
    except client.GatedRepoError:
        raise HubError(
            f"{name}: ask for access at {place} and log in (hf auth login), then try again"
        ) from None
    except client.RepositoryNotFoundError:
        raise HubError(
            f"{name} is neither here nor at {place}; if it is private, log in (hf auth login) or give a token"
        ) from None
    except client.RevisionNotFoundError:
        raise HubError(f"{name} has no revision {revision!r} at {place}") from None
    except client.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "unknown")
        way_out = "; log in with a token that may do this (hf auth login)" if status in (401, 403) else ""
        raise UnreachableError(f"{name}: {place} answers with status {status}{way_out}") from None
    except Exception as error:  # what there is depends on the client's version
        raise UnreachableError(f"{name}: {place} cannot be reached: {reason(error)}") from error


def readable_size(count: int) -> str:
    """A number of bytes to three digits: ``12.3 MB``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"
