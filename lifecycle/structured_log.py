"""Structured logging over the standard library: every line is a constant event name with fields.

A line is written as ``log.info("job.claimed", job="md-7", reason="lease expired")``. The event is a literal in dotted
lower case (a test collects them all), so it can be searched for and counted; what varies goes into the fields. The
worker's formatter (`adapters.telemetry.log_format`) renders both as JSON or text; any other handler gets
``job.claimed job=md-7 reason='lease expired'``.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

EVENT_ATTRIBUTE: Final = "holdfast_event"
FIELDS_ATTRIBUTE: Final = "holdfast_fields"


class StructuredLogger:
    """A standard logger whose lines are events with fields.

    Args:
        name: Name of the standard logger, such as ``holdfast.worker``.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        """Log *event* for developers."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Log *event* as part of normal operation."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log *event* as trouble that Holdfast handles by itself."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log *event* as trouble that needs an operator."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Log *event* as a defect, with the traceback of the exception being handled."""
        self._log(logging.ERROR, event, fields, with_traceback=True)

    def _log(self, level: int, event: str, fields: Mapping[str, Any], *, with_traceback: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            extra = {EVENT_ATTRIBUTE: event, FIELDS_ATTRIBUTE: dict(fields)}
            self._logger.log(level, "%s", _Line(event, fields), exc_info=with_traceback, extra=extra, stacklevel=3)


class _Line:
    """An event and its fields, rendered only if a handler asks for the text."""

    def __init__(self, event: str, fields: Mapping[str, Any]) -> None:
        self._event = event
        self._fields = fields

    def __str__(self) -> str:
        return " ".join((self._event, *(f"{name}={_shown(value)}" for name, value in self._fields.items())))


def _shown(value: object) -> str:
    """Return *value* as text, quoted if it would otherwise not be one word."""
    text = str(value)
    return text if text and not any(character in text for character in " \t\n\"'=") else repr(text)
