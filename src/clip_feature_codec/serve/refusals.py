"""What a client is told when it does not get what it asked for: a status and one line."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.exceptions import HTTPException

from clip_feature_codec.errors import (
    BitstreamError,
    CheckpointError,
    ConfigError,
    HubError,
    ImageError,
    MissingExtraError,
    ModelError,
)

log = logging.getLogger(__name__)

RETRY_SECONDS = 2
"""After how long one should ask again who came when there was too much to do."""


class Refusal(HTTPException):
    """Ends a request with a status of 400 and above, and a line that says why.

    Args:
        status: as HTTP has it.
        line: what is wrong, without anything that the client is not to know, such as a path.
        headers: of the answer.
    """

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, line, headers)


def busy() -> Refusal:
    """Refuse, since there is too much to do already, and say when to come again."""
    return Refusal(429, "there is too much to do: ask again", {"Retry-After": str(RETRY_SECONDS)})


@contextmanager
def told() -> Iterator[None]:
    """Turn what the package finds wrong with what a client has sent into a refusal.

    A model or a decoder that is not here is nobody's fault who asks for it: 501. What is wrong with the store
    passes through.
    """
    try:
        yield
    except ConfigError as error:
        raise Refusal(400, str(error)) from error
    except (ImageError, BitstreamError) as error:
        raise Refusal(422, str(error)) from error
    except (ModelError, CheckpointError, HubError, MissingExtraError) as error:
        log.error("%s", error)
        raise Refusal(501, "the model that this takes is not here: the server says why") from error
