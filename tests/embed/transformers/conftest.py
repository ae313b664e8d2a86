from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from clip_feature_codec.cli.main import main


@pytest.fixture
def ok() -> Callable[..., Result]:
    """Runs a command that ends well."""

    def run(*args: object) -> Result:
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        assert result.exit_code == 0, result.output
        return result

    return run
