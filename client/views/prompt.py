"""Asking a person for confirmation."""

import sys

from lifecycle.errors import ConfigError


def confirm(question: str) -> bool:
    """Ask a person; return True only if the answer is `yes` in full.

    Raises:
        ConfigError: Standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise ConfigError("cannot ask for confirmation without a terminal: pass --yes to go ahead")
    try:
        return input(f"{question} [yes/no] ").strip().lower() == "yes"
    except EOFError:
        return False
