"""What may be asked for in an address: each parameter is checked, and described, from one value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.datastructures import ImmutableMultiDict

from clip_feature_codec.serve.refusals import Refusal

Kind = Literal["integer", "number", "string", "boolean"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a query, or of a path.

    Attributes:
        name: in the address.
        kind: as JSON Schema calls it.
        about: what it is for.
        low, high: limits of a number; of a string, of its length.
        choices: all that it may be, of a string.
        default: what stands for one that is not given.
        required: it must be given.
        place: where in the address.
    """

    name: str
    kind: Kind
    about: str
    low: float | None = None
    high: float | None = None
    choices: Sequence[str] = ()
    default: Any = None
    required: bool = False
    place: Literal["query", "path"] = "query"

    def read(self, text: str) -> Any:
        """The value that a text stands for.

        Raises:
            Refusal: it stands for none, or for one that is out of range.
        """
        try:
            value, size = self._value(text)
        except (ValueError, KeyError):
            raise self._refusal(text) from None
        if self.choices and value not in self.choices:
            raise self._refusal(text)
        low, high = (
            (-math.inf if self.low is None else self.low),
            (math.inf if self.high is None else self.high),
        )
        if not low <= size <= high:
            raise self._refusal(text)
        return value

    def _value(self, text: str) -> tuple[Any, float]:
        """The value, and what its limits are about."""
        if self.kind == "integer":
            whole = int(text) if len(text) < 20 and text.isascii() and "_" not in text else math.nan
            if isinstance(whole, float):
                raise ValueError
            return whole, whole
        if self.kind == "number":
            number = float(text)
            if not math.isfinite(number):
                raise ValueError
            return number, number
        if self.kind == "boolean":
            return {"true": True, "false": False}[text], 0
        return text, len(text)

    def _refusal(self, text: str) -> Refusal:
        found = text if len(text) <= 40 else f"{text[:40]}..."
        return Refusal(400, f"{self.name}: found {found!r}, expected {self._expected()}")

    def _expected(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        limits = " to ".join(f"{value:g}" for value in (self.low, self.high) if value is not None)
        return {
            "integer": f"a whole number from {limits}",
            "number": f"a number from {limits}",
            "boolean": "true or false",
            "string": f"{limits} characters",
        }[self.kind]

    def described(self) -> dict[str, Any]:
        """As OpenAPI has it."""
        schema: dict[str, Any] = {"type": self.kind}
        ends = ("minLength", "maxLength") if self.kind == "string" else ("minimum", "maximum")
        schema |= {
            end: value for end, value in zip(ends, (self.low, self.high), strict=True) if value is not None
        }
        if self.choices:
            schema["enum"] = list(self.choices)
        if self.default is not None:
            schema["default"] = self.default
        return {
            "name": self.name,
            "in": self.place,
            "required": self.required or self.place == "path",
            "description": self.about,
            "schema": schema,
        }


def read_query(parameters: Sequence[Parameter], query: ImmutableMultiDict[str, str]) -> dict[str, Any]:
    """The values of all parameters by their names; None for one that is not given and has no default.

    Raises:
        Refusal: one is unknown, is there twice or is missing, or its value is none.
    """
    known = {parameter.name for parameter in parameters}
    given = [name for name, _ in query.multi_items()]
    for name in given:
        if name not in known:
            expected = ", ".join(sorted(known)) or "none"
            raise Refusal(400, f"found the parameter {name[:40]!r}, expected {expected}")
        if given.count(name) > 1:
            raise Refusal(400, f"{name}: found {given.count(name)} times, expected once")
    values = {}
    for parameter in parameters:
        text = query.get(parameter.name)
        if text is None and parameter.required:
            raise Refusal(400, f"{parameter.name}: found none, expected {parameter._expected()}")
        values[parameter.name] = parameter.default if text is None else parameter.read(text)
    return values
