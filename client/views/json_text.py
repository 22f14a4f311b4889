"""JSON as the commands print it and the pages read it."""

import json
from typing import Any

from lifecycle.bounds import finite


def to_json(value: Any) -> str:
    """Return *value* as one line of JSON that every reader accepts: NaN and infinity become null."""
    return json.dumps(finite(value), allow_nan=False)
