"""What every command does beside its work: its outputs are checked first, and its errors are reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from clip_feature_codec.cli.paths import WITH_SLASH, OutputPath
from clip_feature_codec.cli.reporting import logged, reported
from clip_feature_codec.cli.telling import tell, wants_events
from clip_feature_codec.extras import extra
from clip_feature_codec.outputs import Output, check_outputs


class Command(click.Command):
    """A command with ``--debug`` and ``--offline``, and ``--force`` where it writes.

    How it ends: see `reporting.reported`. What its options of type `OutputPath` name is checked before its
    function is called.

    Args:
        needs: the extra whose packages it may need.
        large_products: whether it multiplies large matrices by numpy, on all cores. Where it does not,
            OpenBLAS's threads, which look for work without a pause, would cost more than they give.
    """

    def __init__(self, *args: Any, needs: str = "clip", large_products: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._needs, self._large_products = needs, large_products
        # --img_dir and --img-dir are the same option.
        self.context_settings["token_normalize_func"] = lambda token: token.replace("_", "-")
        if any(isinstance(param.type, OutputPath) for param in self.params):
            self.params.append(_flag("force", "Write over inputs and over files of other programs, too."))
        self.params.append(_flag("offline", "Ask nothing of the network, as with HF_HUB_OFFLINE=1."))
        self.params.append(_flag("debug", "Show tracebacks and what the library logs."))

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments."""
        if not self._large_products:  # read by numpy when it is imported: it is not yet
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        with reported():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Check the outputs, and run the command."""
        debug, quiet = ctx.meta["debug"], ctx.params.get("quiet", False)
        if ctx.meta["offline"]:
            # Read by all libraries that download, when they are imported: none of them is yet.
            os.environ["HF_HUB_OFFLINE"] = "1"
        with reported(ctx), logged(debug=debug, quiet=quiet), extra(self._needs, ctx.command_path):
            self.check_outputs(ctx)
            result = super().invoke(ctx)
            if wants_events():
                tell("end", exit_code=0)
            return result

    def check_outputs(self, ctx: click.Context) -> None:
        """Refuse to write where something would be lost, or where nothing can be written."""
        outputs = list(_outputs(ctx))
        if outputs:
            check_outputs(outputs, list(_inputs(ctx)), force=ctx.meta["force"])


class Group(click.Group):
    """A group of commands whose errors are reported as theirs are."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run one of the commands."""
        with reported(ctx):
            return super().invoke(ctx)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments that come before the command."""
        with reported():
            return super().make_context(info_name, args, parent, **extra)


def _flag(name: str, text: str) -> click.Option:
    """A flag that is not given to the command's function, but found in ``ctx.meta``."""

    def keep(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta[name] = value

    return click.Option([f"--{name}"], is_flag=True, expose_value=False, callback=keep, help=text)


def _outputs(ctx: click.Context) -> Iterator[Output]:
    """What the command will write."""
    for param in ctx.command.get_params(ctx):
        if isinstance(param.type, OutputPath):
            kind = param.type.kind(ctx.params)
            slashed = ctx.meta.get(WITH_SLASH, ())
            yield from (Output(path, kind, path in slashed) for path in _paths(ctx, param))


def _inputs(ctx: click.Context) -> Iterator[Path]:
    """What the command will read."""
    for param in ctx.command.get_params(ctx):
        if isinstance(param.type, click.Path) and param.type.exists:
            yield from _paths(ctx, param)


def _paths(ctx: click.Context, param: click.Parameter) -> tuple[Path, ...]:
    """The value of an option for a path, or for several."""
    value = ctx.params.get(param.name or "")
    if value is None:
        return ()
    return tuple(map(Path, value if isinstance(value, tuple) else (value,)))
