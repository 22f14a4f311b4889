"""What a page is told while it is open, as server-sent events: the news of each refresh, and a job's console."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from client.records.reader import read_one
from client.web.console_view import ConsolePosition, read_on
from client.web.refresher import News, Refresher
from lifecycle.errors import HoldfastError

WAIT_S: Final = 1.0
QUIET_S: Final = 15.0  # then a comment goes out, so that a connection that is gone is noticed
LOCAL_LOOK_S: Final = 1.0
CLOUD_LOOK_S: Final = 5.0  # workers bring what is new every 20 s


class EventStream:
    """Tells pages.

    Args:
        refresher: What it tells of.
    """

    def __init__(self, refresher: Refresher) -> None:
        self._refresher = refresher
        self._look_s = CLOUD_LOOK_S if refresher.env.settings.is_cloud else LOCAL_LOOK_S

    async def answer(self, request: Request) -> Response:
        """`/events`, with `?job=` for that job's console too. A browser that was cut off goes on where it was."""
        job = request.query_params.get("job")
        spot = ConsolePosition.parse(request.headers.get("last-event-id") or request.query_params.get("after", ""))
        return StreamingResponse(self._events(job, spot), media_type="text/event-stream")

    async def _events(self, job: str | None, spot: ConsolePosition | None) -> AsyncIterator[str]:
        number, said_at, looked_at, is_over = -1, time.monotonic(), 0.0, job is None
        yield "retry: 2000\n\n"
        while not self._refresher.is_closed:
            news = await self._refresher.after(number, WAIT_S)
            if news.number != number and news.at:
                yield event("news", as_object(news))
                said_at = time.monotonic()
            number = news.number
            if job and not is_over and time.monotonic() - looked_at >= self._look_s:
                pieces, is_over = await anyio.to_thread.run_sync(self._console, job, spot)
                for text, end in pieces:
                    yield text
                    spot, said_at = end, time.monotonic()
                looked_at = time.monotonic()
            if time.monotonic() - said_at > QUIET_S:
                yield ": still here\n\n"
                said_at = time.monotonic()

    def _console(self, job: str, spot: ConsolePosition | None) -> tuple[list[tuple[str, ConsolePosition]], bool]:
        """What is new in a job's console, and whether that was all: the last bit comes after the job is over."""
        found = read_one(self._refresher.env, job)
        is_over = found.stored is not None and found.stored.record.is_settled and found.stored.age_s > CLOUD_LOOK_S
        if found.stored is None:
            return [], not found.is_passing
        try:
            pieces = read_on(self._refresher.env, job, spot)
        except HoldfastError:
            return [], False
        told = [(event("console", {"epoch": one.epoch, "text": one.text}, one.end), one.end) for one in pieces]
        return told, is_over


def as_object(news: News) -> dict[str, Any]:
    """The news as the page's script takes it."""
    return {
        "at": news.at.timestamp() if news.at else None,
        "counts": dict(news.counts),
        "total": news.total,
        "stale": news.stale,
        "unknown": news.unknown,
        "changed": news.changed,
        "trouble": news.trouble,
    }


def event(name: str, data: Any, spot: ConsolePosition | None = None) -> str:
    """One server-sent event; JSON has no line ends that could end it early."""
    head = f"id: {spot}\n" if spot else ""
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"
