"""`python -m holdfast._entrypoint`: the entry point of the container image.

`docker run IMAGE` runs a worker and `docker run IMAGE status` another command. A program, by its path or by a name that
is no command, replaces this process: `docker run -it IMAGE /bin/bash` is a shell in the worker's image.
"""

from __future__ import annotations

import os
import shutil
import sys

from holdfast._command import add_rings, main


def is_program(word: str) -> bool:
    """Return True if *word* names a program of the image and not a command or an option of Holdfast."""
    if "/" in word:
        return True
    if not word or word.startswith("-"):
        return False
    add_rings()
    from client.cli import SUMMARIES

    return word not in SUMMARIES and shutil.which(word) is not None


def start(arguments: list[str]) -> int:
    """Run the command that *arguments* name, or become the program that they name."""
    if not (arguments and is_program(arguments[0])):
        return main()
    try:
        os.execvp(arguments[0], arguments)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"holdfast: {arguments[0]} cannot be run: {error.strerror}\n")
        return 127 if isinstance(error, FileNotFoundError) else 126


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
