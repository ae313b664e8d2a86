"""What a command says on stderr while it works: lines for people or, with ``--progress json``, events."""

from __future__ import annotations

import json
from typing import Any

import click

_WANTED = "progress"


def keep_progress(ctx: click.Context, _: click.Parameter, value: str) -> None:
    """Keep the value of ``--progress`` for whoever says something."""
    ctx.meta[_WANTED] = value


def wants_events() -> bool:
    """Whether the command that is running was asked for events."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and ctx.meta.get(_WANTED) == "json"


def tell(event: str, **facts: Any) -> None:
    """Write an event: a JSON object on a line of its own."""
    click.echo(json.dumps({"event": event, **facts}), err=True)


def say(event: str, text: str, **facts: Any) -> None:
    """Say something in a line, or as an event with that text and more facts."""
    if wants_events():
        tell(event, text=text, **facts)
    else:
        click.echo(text, err=True)
