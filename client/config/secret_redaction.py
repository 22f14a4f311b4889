"""What a command prints when it failed, without secrets."""

from adapters.redaction import Redactor
from client.config.settings import TABLE, Settings, current
from lifecycle.errors import ConfigError


def mask_of(settings: Settings) -> Redactor:
    """Masks every secret setting."""
    return Redactor([str(settings[row.name]) for row in TABLE if row.secret and settings[row.name]])


def masked(text: str) -> str:
    """*text* without the secrets of this process's settings; settings that cannot be read mask what they quote."""
    try:
        settings = current()
    except ConfigError:
        return text
    return mask_of(settings)(text)
