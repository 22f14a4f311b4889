"""Finding the prefixes of a bucket that have jobs, for a command that found none under its own."""

from itertools import islice
from typing import Final

from client.config.environment import Environment
from lifecycle.errors import HoldfastError
from lifecycle.key_layout import KeyLayout

MOST_OBJECTS: Final = 10_000  # ten requests; a prefix's records are the first objects in it
RECORDS: Final = f"/{KeyLayout('').records}"
NAMED: Final = 5


def jobs_elsewhere(env: Environment) -> str | None:
    """Return a line that says under which other prefixes there are jobs; None if none was found.

    Looks at the first MOST_OBJECTS objects of the bucket. Never fails: the keys may not allow to list the bucket.
    """
    found: dict[str, None] = {}
    try:
        for listed in islice(env.store.list(""), MOST_OBJECTS):
            prefix, records, _ = f"/{listed.key}".partition(RECORDS)
            prefix = prefix.removeprefix("/")
            if records and prefix != env.layout.prefix:
                found[prefix] = None
    except HoldfastError:
        return None
    if not found:
        return None
    shown = ", ".join(_named(prefix) for prefix in islice(found, NAMED)) + (", …" if len(found) > NAMED else "")
    remedy = f"set PREFIX={first}" if (first := next(iter(found))) else "unset PREFIX"
    return f"there are no jobs {_named(env.layout.prefix)}, but there are {shown}: {remedy} to see them"


def _named(prefix: str) -> str:
    return f"under {prefix}" if prefix else "without a prefix"
