"""Log lines: JSON for machines, colours for people; on each its job, epoch, node and state, and on none a secret.

The core logs through the standard library and knows nothing of this: structlog's formatter stands behind the handler.
"""

import logging
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog
from attrs import evolve, frozen

from lifecycle.job_record import JobRecord
from lifecycle.ports.observer import Observer
from lifecycle.states import Edge
from lifecycle.structured_log import EVENT_ATTRIBUTE, FIELDS_ATTRIBUTE

INFO_EVENTS: Final = frozenset({"input_loaded", "resumed", "running", "checkpoint", "exited", "stopped"})
TROUBLE_EVENTS: Final = frozenset(
    {"no_snapshot", "upload_failed", "commit_unknown", "collection_failed", "log_not_stored", "killed"}
)
"""Of the attempt's log, what the core does not log itself."""

log = logging.getLogger("holdfast.attempt")


@frozen
class LoggedAttempt:
    """The attempt that this worker makes, or made last."""

    job: str
    epoch: int
    state: str
    is_over: bool = False


class AttemptContextProcessor:
    """Knows the current attempt, and puts it on every line: an Observer, and a processor for structlog.

    Args:
        node: Who we are.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._last: LoggedAttempt | None = None

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """As the port has it."""
        self._last = LoggedAttempt(record.job, record.epoch, edge.destination.value)

    def wrote(self, record: JobRecord) -> None:
        """As the port has it; what is written lags behind what is entered."""

    def noted(self, line: Mapping[str, Any]) -> None:
        """As the port has it: the line is logged, unless the core does that itself."""
        event = line["event"]
        if event not in INFO_EVENTS | TROUBLE_EVENTS:
            return
        facts = {name: fact for name, fact in line.items() if name not in {"at", "event"} and fact is not None}
        log.log(logging.WARNING if event in TROUBLE_EVENTS else logging.INFO, "%s", event, extra={"facts": facts})

    def left(self, record: JobRecord) -> None:  # noqa: ARG002 - the port's
        """As the port has it."""
        if self._last:
            self._last = evolve(self._last, is_over=True)

    def __call__(self, _: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Add what is known. A line that names its job itself (`extra`) may come before or after the attempt at it."""
        record, last = event["_record"], self._last
        fields = getattr(record, FIELDS_ATTRIBUTE, {})
        job = fields.get("job", getattr(record, "job", None))
        event["node"] = self._node
        if job:
            event["job"] = job
        if last and (job == last.job or not (job or last.is_over)):
            event.update(job=last.job, epoch=last.epoch, state=last.state)
        event["event"] = getattr(record, EVENT_ATTRIBUTE, event["event"])
        for name, fact in {**getattr(record, "facts", {}), **fields}.items():
            event.setdefault(name, fact)
        return event


def configure(
    *, kind: str, level: str, where: AttemptContextProcessor, mask: Callable[[str], str], stream: TextIO | None = None
) -> None:
    """Send all log lines of this process to *stream*, errors that nobody caught and warnings too.

    Args:
        kind: `json`; `text`; `auto`: text on a terminal, else JSON.
        level: The least level of our own lines. Of others' never less than INFO: a cloud's client puts tokens there.
        where: Says whose line it is.
        mask: Takes the secrets out of the finished line.
        stream: stderr, if None.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(kind, where, mask, is_terminal=stream.isatty()))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    logging.getLogger("holdfast").setLevel(level.upper())
    logging.getLogger("transitions").setLevel(logging.WARNING)
    sys.excepthook = _say_uncaught
    threading.excepthook = lambda caught: _say_uncaught(
        caught.exc_type, caught.exc_value or caught.exc_type(), caught.exc_traceback
    )


def _formatter(
    kind: str, where: AttemptContextProcessor, mask: Callable[[str], str], *, is_terminal: bool
) -> logging.Formatter:
    is_text = kind == "text" or (kind == "auto" and is_terminal)
    # Not rich's tracebacks: they show the values of variables, and break lines in the middle of what is to be masked.
    rendering: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=is_terminal, exception_formatter=structlog.dev.plain_traceback)]
        if is_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            where,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *rendering,
            lambda _, __, line: mask(str(line)),
        ],
    )


def _say_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    elif not issubclass(kind, SystemExit):
        logging.getLogger("holdfast").critical("nobody expected this", exc_info=(kind, error, trace))


if TYPE_CHECKING:

    def _conforms(where: AttemptContextProcessor) -> Observer:
        return where
