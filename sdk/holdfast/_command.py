"""The `holdfast` command.

The package index has other packages named `lifecycle`, `adapters` and `client`. Ours lie in a private folder, and only
the process of this command puts that folder on `sys.path`, before all others. Holdfast can therefore be installed
beside those packages, and a program that imports `holdfast` is not affected.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line of this process, and return its exit code."""
    add_rings()
    from client.cli import complete
    from client.cli import main as run

    asked = os.environ.get("_HOLDFAST_COMPLETE")  # by the script of `holdfast completion`
    return complete(asked) if asked else run()


def add_rings() -> None:
    """Put the folder of `lifecycle`, `adapters` and `client` first on `sys.path`."""
    here = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(here, "_rings")
    # In a checkout, and for the copy of this package that jobs get, they lie beside the folder that this package is in.
    sys.path.insert(0, installed if os.path.isdir(installed) else os.path.dirname(os.path.dirname(here)))
