"""`holdfast settings`: print each setting, its value with secrets masked, and its origin."""

import json

from client import options
from client.config.settings import Settings
from client.views.output import say


def run(settings: Settings, *, as_json: bool) -> int:
    """Print all settings.

    Returns:
        0.
    """
    for name, value, origin, meaning in settings.rows():
        if as_json:
            say(json.dumps({"name": name, "value": value, "origin": origin, "meaning": meaning}))
        else:
            say(f"{name:<22} {value or '-':<28} {origin:<14} {meaning}")
    return 0


@options.command(
    "settings",
    ("holdfast settings", "Print all settings; secrets are masked."),
    ("holdfast settings --config prod.toml", "Print those of another file."),
)
@options.json_option
def command(*, as_json: bool) -> int:
    """Print each setting, its value and its origin."""
    return run(options.settings(), as_json=as_json)
