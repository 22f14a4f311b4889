"""What a page is told while it is open, as server-sent events: the news of each refresh, and a job's console."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from client.records.reader import read_one
from client.web.console_view import Spot, read_on
from client.web.refresher import Board, News
from lifecycle.errors import HoldfastError

WAIT_S: Final = 1.0
QUIET_S: Final = 15.0  # then a comment goes out, so that a connection that is gone is noticed
LOCAL_LOOK_S: Final = 1.0
CLOUD_LOOK_S: Final = 5.0  # workers bring what is new every 20 s


class Stream:
    """Tells pages.

    Args:
        board: What it tells of.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._look_s = CLOUD_LOOK_S if board.site.settings.is_cloud else LOCAL_LOOK_S

    async def answer(self, request: Request) -> Response:
        """`/events`, with `?job=` for that job's console too. A browser that was cut off goes on where it was."""
        job = request.query_params.get("job")
        spot = Spot.parse(request.headers.get("last-event-id") or request.query_params.get("after", ""))
        return StreamingResponse(self._events(job, spot), media_type="text/event-stream")

    async def _events(self, job: str | None, spot: Spot | None) -> AsyncIterator[str]:
        number, said_at, looked_at, is_over = -1, time.monotonic(), 0.0, job is None
        yield "retry: 2000\n\n"
        while not self._board.is_closed:
            news = await self._board.after(number, WAIT_S)
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

    def _console(self, job: str, spot: Spot | None) -> tuple[list[tuple[str, Spot]], bool]:
        """What is new in a job's console, and whether that was all: the last bit comes after the job is over."""
        found = read_one(self._board.site, job)
        is_over = found.held is not None and found.held.record.is_settled and found.held.age_s > CLOUD_LOOK_S
        if found.held is None:
            return [], not found.is_passing
        try:
            pieces = read_on(self._board.site, job, spot)
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


def event(name: str, data: Any, spot: Spot | None = None) -> str:
    """One server-sent event; JSON has no line ends that could end it early."""
    head = f"id: {spot}\n" if spot else ""
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"
