"""The base class of fakes that pass a port's calls on by name, or have only those methods that a test needs.

To the type checkers such a fake is of any type, so that it can be given where a port is wanted.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    AnyPort = Any
else:

    class AnyPort:
        """A fake of some port."""
