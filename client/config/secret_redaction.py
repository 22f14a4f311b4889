"""Redacting the secrets of the settings from text."""

from adapters.redaction import Redactor
from client.config.settings import Settings, current_settings
from lifecycle.errors import ConfigError


def redactor_of(settings: Settings) -> Redactor:
    """Return a redactor of all secret settings."""
    return Redactor(settings.secrets)


def redact(text: str) -> str:
    """Return *text* without the secrets of this process's settings.

    If the settings are invalid, *text* is returned as it is: errors about them quote no secret.
    """
    try:
        settings = current_settings()
    except ConfigError:
        return text
    return redactor_of(settings)(text)
