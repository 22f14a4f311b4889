"""Asking a person for confirmation."""

import sys

from client.views.text import printable
from lifecycle.errors import UsageError


def confirm(question: str) -> bool:
    """Ask a person; return True only if the answer is `yes` in full.

    Raises:
        UsageError: Standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError("cannot ask for confirmation without a terminal: pass --yes to go ahead")
    shown = "\n".join(map(printable, question.split("\n")))
    try:
        return input(f"{shown} [yes/no] ").strip().lower() == "yes"
    except EOFError:
        return False
