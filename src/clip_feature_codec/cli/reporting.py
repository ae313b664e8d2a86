"""How a command ends: a line for the person at the keyboard, and an exit status."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NoReturn

import click

from clip_feature_codec.cli.telling import say
from clip_feature_codec.errors import CodecError, PartialFailureError, advice

INTERRUPTED = 128 + 2
"""Exit status after Ctrl-C, as that of a shell whose command ended by SIGINT."""
NOBODY_READS = 128 + 13
"""Exit status when the reader of the output has gone (``| head``), as by SIGPIPE."""


@contextmanager
def reported(ctx: click.Context | None = None) -> Iterator[None]:
    """Turn what the block raises into one line on stderr and an exit status.

    Args:
        ctx: with ``debug`` set in its ``meta``, the traceback is shown as well.

    Raises:
        click.exceptions.Exit: with 0: all done; 1: some inputs failed, and the rest is done; 2: nothing could
            be done; `INTERRUPTED`; or `NOBODY_READS`.
    """
    try:
        yield
        sys.stdout.flush()
    except (click.exceptions.Exit, click.exceptions.NoArgsIsHelpError):
        raise
    except (KeyboardInterrupt, click.Abort) as stop:
        _end(": ".join(["interrupted", *map(str, stop.args)]), INTERRUPTED)
    except click.ClickException as error:
        at = getattr(error, "ctx", None) or ctx
        help_is = f" (see {at.command_path} --help)" if at else ""
        _end(f"error: {_plain(error.format_message())}{help_is}", 2)
    except BrokenPipeError:
        _let_go()
        raise click.exceptions.Exit(NOBODY_READS) from None
    except Exception as error:  # noqa: BLE001
        if ctx and ctx.meta.get("debug"):
            click.echo(traceback.format_exc(), err=True)
        if isinstance(error, PartialFailureError):
            for name, why in error.failures:
                say("failure", f"failed: {_one_line(why)}", input=name)
        _end(f"error: {_message(error)}", error.exit_code if isinstance(error, CodecError) else 2)


@contextmanager
def resumable() -> Iterator[None]:
    """Say, when the block is interrupted, that the same command goes on from there."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("run the same command again to go on") from None


@contextmanager
def logged(*, debug: bool, quiet: bool) -> Iterator[None]:
    """Show on stderr what the library logs during the block: remarks, or only warnings, or all of it."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    levels = {
        "clip_feature_codec": logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO,
        "tifffile": logging.CRITICAL,  # a picture is read, or refused in our own words
    }
    before = {name: logging.getLogger(name).level for name in levels}
    logging.getLogger().addHandler(handler)
    _set_levels(levels)
    try:
        yield
    finally:
        _set_levels(before)
        logging.getLogger().removeHandler(handler)


def _set_levels(levels: Mapping[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def _one_line(text: str) -> str:
    """The same text without line feeds."""
    return " ".join(text.split())


def _message(error: Exception) -> str:
    if isinstance(error, CodecError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(filter(None, [str(error.filename or ""), error.strerror, advice(error)]))
    return f"unexpected {type(error).__name__}: {error} (run again with --debug and report it)"


def _plain(message: str) -> str:
    """Shorten click's message, which may repeat a thousand names, and say it in the words of the rest."""
    for kind, plain in (("valid integer", "whole number"), ("valid float", "number")):
        message = message.replace(f"{kind} range", plain).replace(kind, plain)
    return textwrap.shorten(message.rstrip("."), 300, placeholder=" ...")


def _end(line: str, exit_code: int) -> NoReturn:
    try:
        say("end", _one_line(line), exit_code=exit_code)
    except BrokenPipeError:
        _let_go()
    raise click.exceptions.Exit(exit_code)


def _let_go() -> None:
    """Let what is left for a reader who has gone lead nowhere.

    Python would otherwise find the pipe closed once more at its end, and change the exit status.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # no file, but a stream in memory
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
