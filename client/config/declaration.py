"""Declaring a setting: its name, parser, default and meaning, as metadata of an attribute of `Settings`."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from attrs import field, frozen

from client.config.parsers import parse_path
from lifecycle.durations import show
from lifecycle.errors import ConfigError

USER_IN_URL: Final = re.compile(r"//.*@")  # text before the last @ may be a password
SHOWN_OF_SECRET: Final = 4  # characters


@frozen
class Setting:
    """A setting's declaration.

    Attributes:
        name: Its name in the environment and in `holdfast.toml`.
        parse: Parser of its text.
        default: Default, as text; empty: unset.
        meaning: Its meaning, for people.
        secret: Its value must not be shown.
        unset: The typed value of an empty text.
        trusted: It runs programs or says where keys are sent, so it is not taken from a file that was merely found.
    """

    name: str
    parse: Callable[[str], Any]
    default: str
    meaning: str
    secret: bool = False
    unset: Any = ""
    trusted: bool = False

    def read(self, text: str, origin: str) -> Any:
        """Parse *text*.

        Raises:
            ConfigError: The text is invalid; the message names the setting and *origin*, in one line.
        """
        try:
            return self.parse(text) if text else self.unset
        except ValueError as error:
            shown = mask(text) if self.secret else USER_IN_URL.sub("//…@", text)
            raise ConfigError(f"{self.name}={shown!r} (from {origin}) {error}") from error

    def show(self, value: Any) -> str:
        """Return *value* as text, masked if it is secret."""
        if isinstance(value, timedelta):
            return show(value)
        if isinstance(value, tuple):
            return ",".join(value)
        if isinstance(value, bool):
            return "yes" if value else "no"
        text = "" if value is None else str(value)
        return mask(text) if self.secret and text else text


def setting(name: str, parse: Callable[[str], Any], default: str, meaning: str, **more: Any) -> Any:
    """Declare an attribute of `Settings`."""
    return field(metadata={Setting: Setting(name, parse, default, meaning, **more)})


def secret(name: str, parse: Callable[[str], Any], meaning: str, **more: Any) -> Any:
    """Declare a secret without a default."""
    return setting(name, parse, "", meaning, secret=True, **more)


def optional_path(name: str, meaning: str, **more: Any) -> Any:
    """Declare a path that is None if it is not set."""
    return setting(name, parse_path, "", meaning, unset=None, **more)


def mask(secret: str) -> str:
    """Return enough of a secret to tell two secrets apart, and no more."""
    return f"…{secret[-SHOWN_OF_SECRET:]}" if len(secret) >= 4 * SHOWN_OF_SECRET else "…"
