"""Server-sent events for open pages: the summary of each refresh, and the output of a job."""

import time
from collections.abc import AsyncIterator
from typing import Any, Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from client.records.reader import read_job
from client.views.json_text import to_json
from client.web.console_view import ConsolePosition, read_console
from client.web.refresher import Refresher, Summary
from lifecycle.errors import HoldfastError

WAIT_S: Final = 1.0
KEEPALIVE_S: Final = 15.0  # then a comment is sent, so that a broken connection is noticed
LOCAL_POLL_S: Final = 1.0
CLOUD_POLL_S: Final = 5.0  # workers upload new output every 20 s


class EventStream:
    """The event stream of a page.

    Args:
        refresher: The source of its data.
    """

    def __init__(self, refresher: Refresher) -> None:
        self._refresher = refresher
        self._poll_s = CLOUD_POLL_S if refresher.env.settings.is_cloud else LOCAL_POLL_S

    async def answer(self, request: Request) -> Response:
        """Answer `/events`; with `?job=`, also send that job's output.

        A browser that reconnects continues where it was.
        """
        job = request.query_params.get("job")
        after = request.headers.get("last-event-id") or request.query_params.get("after", "")
        return StreamingResponse(self._events(job, ConsolePosition.parse(after)), media_type="text/event-stream")

    async def _events(self, job: str | None, position: ConsolePosition | None) -> AsyncIterator[str]:
        number, sent_at, polled_at, is_over = -1, time.monotonic(), 0.0, job is None
        yield "retry: 2000\n\n"
        while not self._refresher.is_closed:
            summary = await self._refresher.next(number, WAIT_S)
            if summary.number != number and summary.at:
                yield event("summary", summary_object(summary))
                sent_at = time.monotonic()
            number = summary.number
            if job and not is_over and time.monotonic() - polled_at >= self._poll_s:
                parts, is_over = await anyio.to_thread.run_sync(self._console, job, position)
                for text, end in parts:
                    yield text
                    position, sent_at = end, time.monotonic()
                polled_at = time.monotonic()
            if time.monotonic() - sent_at > KEEPALIVE_S:
                yield ": keepalive\n\n"
                sent_at = time.monotonic()

    def _console(self, job: str, position: ConsolePosition | None) -> tuple[list[tuple[str, ConsolePosition]], bool]:
        """Return new output of a job as events, and True if the output is complete.

        The last part of the output is uploaded after the job is over.
        """
        found = read_job(self._refresher.env, job)
        if found.stored is None:
            return [], not found.is_transient
        age_s = found.stored.age_s  # if it is unknown, the page that no one closes asks again
        is_over = found.stored.record.is_settled and age_s is not None and age_s > CLOUD_POLL_S
        try:
            parts = read_console(self._refresher.env, job, position)
        except HoldfastError:
            return [], False
        events = [(event("console", {"epoch": one.epoch, "text": one.text}, one.end), one.end) for one in parts]
        return events, is_over


def summary_object(summary: Summary) -> dict[str, Any]:
    """Return a summary in the form that the page's script reads."""
    return {
        "at": summary.at.timestamp() if summary.at else None,
        "counts": dict(summary.counts),
        "total": summary.total,
        "stale": summary.stale,
        "unknown": summary.unknown,
        "changed": summary.changed,
        "problem": summary.problem,
    }


def event(name: str, data: Any, position: ConsolePosition | None = None) -> str:
    """Return a server-sent event; JSON contains no line ends that could end it early."""
    head = f"id: {position}\n" if position else ""
    return f"{head}event: {name}\ndata: {to_json(data)}\n\n"
