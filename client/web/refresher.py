"""The data that all pages share: the record index, kept fresh while pages are open, and the result of each refresh."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import anyio
import anyio.to_thread
from attrs import evolve, field, frozen

from client.config.environment import Environment
from client.records.query import EVERYTHING, Query
from client.records.record_index import RecordIndex
from lifecycle.errors import HoldfastError
from lifecycle.states import State
from lifecycle.structured_log import StructuredLogger

LOCAL_S: Final = 1.0
CLOUD_S: Final = 5.0  # a listing costs a request per thousand jobs
REST_RATIO: Final = 4  # a refresh may take at most a fifth of the time
INTEREST_S: Final = 30.0  # refreshing goes on for this long after a page was requested
PATIENCE_S: Final = 2.0  # a page waits this long for a refresh, and then shows the data that there is
MOST_NAMED: Final = 200
STALE: Final = Query(stale=True)

log = StructuredLogger("holdfast.dashboard")


@frozen(kw_only=True)
class Summary:
    """The result of a refresh.

    Attributes:
        number: Increases with every refresh.
        at: Time of the last successful refresh, by this machine's clock; None before the first.
        counts: Jobs in each state, including states with none.
        stale: Jobs whose owner's lease has expired.
        unknown: Records that cannot be read.
        changed: Jobs whose records changed; None if there are too many to name.
        problem: Why the refresh failed; the data of the last successful one is kept.
    """

    number: int = 0
    at: datetime | None = None
    counts: Mapping[str, int] = field(factory=lambda: {state.value: 0 for state in State})
    stale: int = 0
    unknown: int = 0
    changed: tuple[str, ...] | None = ()
    problem: str | None = None

    @property
    def total(self) -> int:
        """Number of all jobs."""
        return sum(self.counts.values()) + self.unknown


class Refresher:
    """Refreshes the index in the background; see the module. `run` runs in the event loop of the server.

    Args:
        env: The environment of the jobs.
        index: The index of its records.
    """

    def __init__(self, env: Environment, index: RecordIndex) -> None:
        self.env = env
        self.index = index
        self.summary = Summary()
        self.is_closed = False
        self._interval_s = CLOUD_S if env.settings.is_cloud else LOCAL_S
        self._wanted_until = 0.0
        self._waiting = 0
        self._wanted = anyio.Event()
        self._refreshed = anyio.Event()

    async def run(self) -> None:
        """Refresh while pages are open, and wake the tasks that wait for a refresh. Never fails."""
        while not self.is_closed:
            await self._wanted.wait()
            began = time.monotonic()
            self.summary = await anyio.to_thread.run_sync(self._refresh)
            self._refreshed.set()
            self._refreshed = anyio.Event()
            took = time.monotonic() - began if self.summary.number > 1 else 0.0  # the first reads everything
            await anyio.sleep(max(self._interval_s, REST_RATIO * took))
            if not self._waiting and time.monotonic() > self._wanted_until:
                self._wanted = anyio.Event()

    async def fresh(self) -> Summary:
        """Return a fresh summary, or, after PATIENCE_S, the last one."""
        if not self._wanted.is_set():
            self._want()
            await self.next(self.summary.number, PATIENCE_S)
        self._want()
        return self.summary

    async def next(self, number: int, timeout_s: float) -> Summary:
        """Wait for the summary after *number*; return the same one again after *timeout_s*, or when closed."""
        self._waiting += 1
        try:
            self._want()
            if self.summary.number == number and not self.is_closed:
                with anyio.move_on_after(timeout_s):
                    await self._refreshed.wait()
        finally:
            self._waiting -= 1
        return self.summary

    def close(self) -> None:
        """Stop, and wake all waiting tasks. Call it in the event loop."""
        self.is_closed = True
        self._refreshed.set()

    def _want(self) -> None:
        self._wanted_until = time.monotonic() + INTEREST_S
        self._wanted.set()

    def _refresh(self) -> Summary:
        """Return the next summary, whatever happens: a page that shows old data must say so."""
        try:
            return self._summarize()
        except Exception as error:
            log.exception("dashboard.refresh_failed")
            problem = f"the dashboard failed: {type(error).__name__}: {' '.join(str(error).split())}"
            return evolve(self.summary, number=self.summary.number + 1, changed=(), problem=problem)

    def _summarize(self) -> Summary:
        changed: tuple[str, ...] | None = ()
        problem = None
        try:
            result = self.index.refresh()
        except HoldfastError as error:
            problem = " ".join(str(error).split())
        else:
            changed = tuple(result.changed) if len(result.changed) <= MOST_NAMED and not result.gone else None
        counts = self.index.count(EVERYTHING)
        return Summary(
            number=self.summary.number + 1,
            at=self.summary.at if problem else self.env.clock.now(),
            counts={state.value: counts.get(state.value, 0) for state in State},
            stale=sum(self.index.count(STALE).values()),
            unknown=counts.get("unknown", 0),
            changed=changed,
            problem=problem,
        )
