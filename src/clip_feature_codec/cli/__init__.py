"""Commands: flags to use cases, errors to one line and an exit code."""
