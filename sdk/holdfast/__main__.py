"""`python -m holdfast`: the `holdfast` command, where the name of an interpreter is at hand and a PATH is not."""

import sys

from holdfast._command import main

if __name__ == "__main__":
    sys.exit(main())
