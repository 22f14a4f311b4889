"""Parsers of settings: from text to a typed value.

A parser raises `ValueError`; its message continues a sentence that begins with the setting, and never quotes the text,
which may be a secret.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from lifecycle.durations import parse
from lifecycle.outbox import NOTIFIABLE_STATES
from lifecycle.states import State

SHIFTS: Final = {"": 0, "K": 10, "M": 20, "G": 30}
LAST_PORT: Final = 65535
MOST_DIGITS: Final = 15
FLAGS: Final = {"yes": True, "no": False}
SHORTEST_KEY: Final = 16  # characters


def parse_text(text: str) -> str:
    """Accept any text."""
    return text


def parse_path(text: str) -> Path:
    """Parse a path."""
    return Path(text)


def parse_url(text: str) -> str:
    """Check an http or https URL without credentials."""
    parts = _http_url(text)
    if parts.username is not None or parts.password is not None:
        raise ValueError("contains a user or password; use the settings for credentials instead")
    return text


def parse_webhook_url(text: str) -> str:
    """Check a URL that notices can be posted to."""
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("contains a space, a control character, or a character that is not ASCII")
    parts = _http_url(text)
    if parts.username is not None or parts.password is not None:
        raise ValueError("contains a user or password; webhooks are signed with WEBHOOK_KEY instead")
    _ = parts.port  # raises ValueError if it is invalid
    return text


def _http_url(text: str) -> SplitResult:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is not an http or https URL")
    return parts


def parse_signing_key(text: str) -> str:
    """Check a key that signs messages."""
    if len(text) < SHORTEST_KEY or not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError(f"must have {SHORTEST_KEY} characters or more, in ASCII, without spaces")
    return text


def parse_webhook_key(text: str) -> str:
    """Check a key that signs webhooks: plain text, or base64 after `whsec_`."""
    from adapters.webhook import key_bytes

    if len(key_bytes(text)) < SHORTEST_KEY:
        raise ValueError(f"must have {SHORTEST_KEY} characters or more, such as those from `openssl rand -hex 32`")
    return text


def parse_states(text: str) -> tuple[State, ...]:
    """Parse a list of states, separated by commas; return them in the order of the state table."""
    asked = {name.strip() for name in text.split(",") if name.strip()}
    if not asked or not asked <= set(NOTIFIABLE_STATES):
        raise ValueError(f"is not a list of states separated by commas; the states are {', '.join(NOTIFIABLE_STATES)}")
    return tuple(state for state in NOTIFIABLE_STATES if state in asked)


def parse_prefix(text: str) -> str:
    """Parse a key prefix; return it without slashes at its ends."""
    parts = text.strip("/").split("/") if text.strip("/") else []
    if not text.isascii() or any(part in {"", ".", "..", ".holdfast"} for part in parts):
        raise ValueError("is not a plain ASCII path, without empty parts, `.`, `..` and `.holdfast`")
    return "/".join(parts)


def parse_duration(text: str) -> timedelta:
    """Parse a duration, such as 90s, 15m or 2h."""
    return parse(text)


def parse_positive_duration(text: str) -> timedelta:
    """Parse a duration of more than zero."""
    duration = parse(text)
    if not duration:
        raise ValueError("must be more than zero")
    return duration


def parse_count(text: str) -> int:
    """Parse a whole number from 1 on."""
    if not _is_number(text) or int(text) < 1:
        raise ValueError("is not a whole number from 1 on")
    return int(text)


def parse_flag(text: str) -> bool:
    """Parse yes or no."""
    if text.lower() not in FLAGS:
        raise ValueError("is neither yes nor no")
    return FLAGS[text.lower()]


def parse_port(text: str) -> int:
    """Parse a TCP port."""
    if not _is_number(text) or int(text) > LAST_PORT:
        raise ValueError(f"is not a port from 0 to {LAST_PORT}")
    return int(text)


def parse_rate(text: str) -> int:
    """Parse a number of bytes per second, such as 500K or 20M."""
    found = re.fullmatch(rf"(\d{{1,{MOST_DIGITS}}})\s*([KMG]?)i?B?(?:/s)?", text.strip(), re.IGNORECASE)
    if not found:
        raise ValueError("is not a number of bytes, such as 500K or 20M")
    return int(found[1]) << SHIFTS[found[2].upper()]


def _is_number(text: str) -> bool:
    """Return True if *text* is a whole number that `int` can read."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that accepts *choices* in any case."""

    def parse_choice(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"is not one of {', '.join(choices)}")
        return text.lower()

    return parse_choice
