"""Format log lines as JSON for machines or text for people, with the current attempt on each and secrets on none.

The core logs through the standard library (`lifecycle.structured_log`); structlog renders the lines in a formatter of
the root handler, so libraries' lines have the same form.
"""

import io
import logging
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from http.client import HTTPException
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog
from attrs import evolve, frozen

from lifecycle.job_record import JobRecord
from lifecycle.ports.observer import Observer
from lifecycle.states import Edge
from lifecycle.structured_log import EVENT_ATTRIBUTE, FIELDS_ATTRIBUTE

ATTEMPT_INFO_EVENTS: Final = frozenset(
    {"input_loaded", "resumed", "running", "frozen", "checkpoint", "exited", "stopped"}
)
ATTEMPT_WARNING_EVENTS: Final = frozenset(
    {
        "no_snapshot",
        "not_growing",
        "skipped_entries",
        "upload_failed",
        "commit_unknown",
        "collection_failed",
        "log_not_stored",
        "killed",
    }
)
"""Events of the attempt's event log that are logged too; the core logs the others itself, in its own words."""

ENVIRONMENT_ERRORS: Final = (OSError, EOFError, HTTPException)  # the network's, among others
NETWORK_LIBRARIES: Final = frozenset({"botocore", "requests", "s3transfer", "urllib3"})

Line = MutableMapping[str, Any]

attempt_logger = logging.getLogger("holdfast.attempt")
crash_logger = logging.getLogger("holdfast")


@frozen
class LoggedAttempt:
    """The attempt that this worker makes, or made last."""

    job: str
    epoch: int
    state: str
    is_over: bool = False


class AttemptContextProcessor:
    """An observer that knows the current attempt, and a structlog processor that adds it to every line.

    Args:
        node: The node's name.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._last: LoggedAttempt | None = None

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """See `Observer.entered`."""
        self._last = LoggedAttempt(record.job, record.epoch, edge.destination.value)

    def wrote(self, record: JobRecord) -> None:
        """See `Observer.wrote`. Does nothing: a write is behind what was entered."""

    def noted(self, line: Mapping[str, Any]) -> None:
        """See `Observer.noted`. Logs the events that the core does not log itself."""
        event = line["event"]
        if event in ATTEMPT_INFO_EVENTS | ATTEMPT_WARNING_EVENTS:
            fields = {name: value for name, value in line.items() if name not in {"at", "event"}}
            level = logging.WARNING if event in ATTEMPT_WARNING_EVENTS else logging.INFO
            attempt_logger.log(level, "%s", event, extra={EVENT_ATTRIBUTE: event, FIELDS_ATTRIBUTE: fields})

    def left(self, record: JobRecord) -> None:  # noqa: ARG002 - the port's
        """See `Observer.left`."""
        if self._last:
            self._last = evolve(self._last, is_over=True)

    def __call__(self, _: object, __: str, line: Line) -> Line:
        """Add the event, its fields and the context to *line*.

        The current attempt is added unless the line names another job; after the attempt, only to lines that name its
        job. A field never replaces a key that the line has already.
        """
        record, last = line["_record"], self._last
        fields = {k: _plain(value) for k, value in getattr(record, FIELDS_ATTRIBUTE, {}).items() if value is not None}
        job = fields.get("job")
        if hasattr(record, EVENT_ATTRIBUTE):
            line["event"] = getattr(record, EVENT_ATTRIBUTE)
        line["node"] = self._node
        if job:
            line["job"] = job
        if last and (job == last.job or not (job or last.is_over)):
            line.update(job=last.job, epoch=last.epoch, state=last.state)
        for name, value in fields.items():
            line.setdefault(name, value)
        return line


def configure(
    *,
    kind: str,
    level: str,
    context: AttemptContextProcessor,
    redact: Callable[[str], str],
    stream: TextIO | None = None,
) -> None:
    """Send all log lines of this process to *stream*, with uncaught exceptions and warnings.

    Args:
        kind: `json`, `text`, or `auto`: text on a terminal, otherwise JSON.
        level: Lowest level of Holdfast's own lines. Libraries' lines below INFO are never logged, because botocore's
            contain session tokens.
        context: Adds the node and the attempt to each line.
        redact: Removes secrets from the finished line.
        stream: Destination; None: stderr.
    """
    target: TextIO = stream or sys.stderr
    handler = logging.StreamHandler(target)
    is_text = kind == "text" or (kind == "auto" and target.isatty())
    rendering = _text(colors=target.isatty()) if is_text else _json()
    processors = [context, *([] if level.lower() == "debug" else [shorten_library_error])]
    handler.setFormatter(_formatter(processors, rendering, redact))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    logging.getLogger("holdfast").setLevel(level.upper())
    logging.getLogger("transitions").setLevel(logging.WARNING)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def shorten_library_error(_: object, __: str, line: Line) -> Line:
    """Put a library's message on one line, with the error in place of a traceback that explains nothing.

    urllib3, for example, warns with a traceback whenever a connection breaks among the headers of a response. A
    traceback remains if the library reports an error, not a warning, and the error is neither the network's nor the
    operating system's: then it shows a defect.
    """
    record: logging.LogRecord = line["_record"]
    if record.name.split(".")[0] == "holdfast":
        return line
    if isinstance(line["event"], str):
        line["event"] = " ".join(line["event"].split())
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is not None and (record.levelno < logging.ERROR or _is_environmental(error)):
        line.pop("exc_info", None)
        line["error"] = " ".join(f"{type(error).__name__}: {error}".split())
    return line


def _plain(value: object) -> object:
    """Return *value* if JSON has its type, otherwise its text: an error's message, a duration, a path."""
    return value if isinstance(value, str | bool | int | float | list | tuple | dict) else str(value)


def _is_environmental(error: BaseException) -> bool:
    return isinstance(error, ENVIRONMENT_ERRORS) or type(error).__module__.partition(".")[0] in NETWORK_LIBRARIES


def _text(*, colors: bool) -> list[Any]:
    # Not rich's tracebacks: they show the values of variables, and break lines within a secret.
    return [
        _without_control_characters,
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_plain_traceback),
    ]


def _without_control_characters(_: object, __: str, line: Line) -> Line:
    """Replace control characters in all texts: some come from workloads and messages, and could steer the terminal."""
    return {name: _printable(value) if isinstance(value, str) else value for name, value in line.items()}


def _plain_traceback(out: TextIO, error: Any) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write("\n".join(map(_printable, text.getvalue().split("\n"))))


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def _json() -> list[Any]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def _formatter(processors: list[Any], rendering: list[Any], redact: Callable[[str], str]) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            *processors,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *rendering,
            lambda _, __, line: redact(str(line)),
        ],
    )


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _log_crash("process.crashed", kind, error, trace)


def _log_uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    error = caught.exc_value or caught.exc_type()
    name = caught.thread.name if caught.thread else None
    _log_crash("thread.crashed", caught.exc_type, error, caught.exc_traceback, thread=name)


def _log_crash(
    event: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None, **fields: object
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    elif not issubclass(kind, SystemExit):
        extra = {EVENT_ATTRIBUTE: event, FIELDS_ATTRIBUTE: fields}
        crash_logger.critical("%s", event, exc_info=(kind, error, trace), extra=extra)


if TYPE_CHECKING:

    def _conforms(processor: AttemptContextProcessor) -> Observer:
        return processor
