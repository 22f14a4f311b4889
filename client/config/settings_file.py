"""Reading `holdfast.toml`."""

import tomllib
from collections.abc import Collection
from pathlib import Path

from lifecycle.errors import ConfigError, reason_of


def read_settings_file(file: Path, known: Collection[str]) -> dict[str, str]:
    """Return the settings in *file* as texts; they may be at the top level or in a table `[holdfast]`.

    Args:
        file: The file.
        known: The names of all settings.

    Raises:
        ConfigError: The file cannot be read, or has a name that is no setting.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {reason_of(error)}") from error
    if isinstance(table.get("holdfast"), dict):
        own = table.pop("holdfast")
        table.update(own)
    for name, value in table.items():
        if name not in known:
            raise ConfigError(f"{file}: there is no setting {name!r}; `holdfast settings` lists them")
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise ConfigError(f"{file}: {name} must be a string or a number")
    return {name: str(value) for name, value in table.items()}
