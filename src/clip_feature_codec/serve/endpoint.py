"""What an endpoint is: one value that is served and described."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from clip_feature_codec.serve.finding import Finder
from clip_feature_codec.serve.parameters import Parameter, read_query
from clip_feature_codec.serve.shelf import Shelf
from clip_feature_codec.serve.uploads import Uploads
from clip_feature_codec.serve.workshop import Workshop

JSON, PNG, STREAM = "application/json", "image/png", "application/octet-stream"
ANY_PICTURE = "image/*"


@dataclass(frozen=True)
class Service:
    """What the endpoints work with.

    Attributes:
        shelf: the store.
        finder: its search index.
        workshop: the networks.
        uploads: reads bodies.
        originals: whether the pictures that the store was made from are given out.
    """

    shelf: Shelf
    finder: Finder
    workshop: Workshop
    uploads: Uploads
    originals: bool


@dataclass(frozen=True)
class Ask:
    """A request whose parameters have been read.

    Attributes:
        service: what it is about.
        request: as it came.
        values: of all parameters, by their names.
    """

    service: Service
    request: Request
    values: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True)
class Answer:
    """What a request that is well answered gets.

    Attributes:
        about: in words.
        media: the types that it can be of.
        schema: of JSON, its name in `description.SCHEMAS`.
    """

    about: str
    media: tuple[str, ...] = (JSON,)
    schema: str = ""


@dataclass(frozen=True)
class Endpoint:
    """A method and a path.

    Attributes:
        method: of HTTP.
        path: with its parameters in braces.
        name: ``operationId`` of the description.
        about: what it does.
        respond: does it.
        answer: what it gives.
        parameters: of path and query.
        body: media types of the body that it takes; none: it takes no body.
    """

    method: Literal["GET", "POST"]
    path: str
    name: str
    about: str
    respond: Callable[[Ask], Awaitable[Response]]
    answer: Answer
    parameters: tuple[Parameter, ...] = ()
    body: tuple[str, ...] = ()

    def ask(self, service: Service, request: Request) -> Ask:
        """Read the parameters of a request.

        Raises:
            Refusal: one is unknown or out of range.
        """
        inside = [one for one in self.parameters if one.place == "path"]
        values = {one.name: one.read(request.path_params[one.name]) for one in inside}
        query = [one for one in self.parameters if one.place == "query"]
        return Ask(service, request, values | read_query(query, request.query_params))
