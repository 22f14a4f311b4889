"""`python -m holdfast._health`: the health check of the container image."""

import sys

from holdfast._command import add_rings


def main() -> int:
    """Check the worker on this node; return 0 if it is alive and 1 if it is not."""
    add_rings()
    from client.commands.health import main as check

    return check()


if __name__ == "__main__":
    sys.exit(main())
