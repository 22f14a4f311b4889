"""What all pages share: the index of all records, kept fresh while somebody looks, and the news of each refresh."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import anyio
import anyio.to_thread
from attrs import field, frozen

from client.config.composition import Environment
from client.records.record_index import EVERYTHING, Query, RecordIndex
from lifecycle.errors import HoldfastError
from lifecycle.states import State

LOCAL_S: Final = 1.0
CLOUD_S: Final = 5.0  # a listing costs money: a request for each thousand jobs
SHARE: Final = 4  # a refresh may take a fifth of the time at most
INTEREST_S: Final = 30.0  # for so long after a page was asked for, the next one may be
PATIENCE_S: Final = 2.0  # that a page waits for a refresh; then it shows what is there
MOST_NAMED: Final = 200
STALE: Final = Query(stale=True)


@frozen(kw_only=True)
class News:
    """What a refresh found.

    Attributes:
        number: Rises with every refresh, and says nothing else.
        at: When it was done, by this machine's clock; None before the first.
        counts: Jobs in each state, the states without any too.
        stale: Jobs whose owner's lease ran out.
        unknown: Records that cannot be read.
        changed: Jobs whose records changed; None if they are too many to name.
        trouble: Why the refresh failed; what was read before still stands.
    """

    number: int = 0
    at: datetime | None = None
    counts: Mapping[str, int] = field(factory=lambda: {state.value: 0 for state in State})
    stale: int = 0
    unknown: int = 0
    changed: tuple[str, ...] | None = ()
    trouble: str | None = None

    @property
    def total(self) -> int:
        """All jobs."""
        return sum(self.counts.values()) + self.unknown


class Refresher:
    """See the module. `keep` runs in the event loop for as long as the page is served.

    Args:
        env: Whose records.
        index: Of them.
    """

    def __init__(self, env: Environment, index: RecordIndex) -> None:
        self.env = env
        self.index = index
        self.news = News()
        self.is_closed = False
        self._least_s = CLOUD_S if env.settings.is_cloud else LOCAL_S
        self._wanted_until = 0.0
        self._listeners = 0
        self._wanted = anyio.Event()
        self._told = anyio.Event()

    async def keep(self) -> None:
        """Refresh while somebody looks, and tell whoever waits; never fails."""
        while not self.is_closed:
            await self._wanted.wait()
            began = time.monotonic()
            self.news = await anyio.to_thread.run_sync(self._refresh)
            self._told.set()
            self._told = anyio.Event()
            took = time.monotonic() - began if self.news.number > 1 else 0.0  # the first reads everything
            await anyio.sleep(max(self._least_s, SHARE * took))
            if not self._listeners and time.monotonic() > self._wanted_until:
                self._wanted = anyio.Event()

    async def look(self) -> News:
        """The news, fresh if that can be had within PATIENCE_S."""
        if not self._wanted.is_set():
            self._want()
            await self.after(self.news.number, PATIENCE_S)
        self._want()
        return self.news

    async def after(self, number: int, timeout_s: float) -> News:
        """The news after *number*; the same again if there is none within *timeout_s*, or at the end."""
        self._listeners += 1
        try:
            self._want()
            if self.news.number == number and not self.is_closed:
                with anyio.move_on_after(timeout_s):
                    await self._told.wait()
        finally:
            self._listeners -= 1
        return self.news

    def close(self) -> None:
        """Tell everybody who waits that this is the end. Called in the event loop."""
        self.is_closed = True
        self._told.set()

    def _want(self) -> None:
        self._wanted_until = time.monotonic() + INTEREST_S
        self._wanted.set()

    def _refresh(self) -> News:
        changed: tuple[str, ...] | None = ()
        trouble = None
        try:
            done = self.index.refresh()
        except HoldfastError as error:
            trouble = " ".join(str(error).split())
        else:
            changed = tuple(done.changed) if len(done.changed) <= MOST_NAMED and not done.gone else None
        counts = self.index.count(EVERYTHING)
        return News(
            number=self.news.number + 1,
            at=self.news.at if trouble else self.env.clock.now(),
            counts={state.value: counts.get(state.value, 0) for state in State},
            stale=sum(self.index.count(STALE).values()),
            unknown=counts.get("unknown", 0),
            changed=changed,
            trouble=trouble,
        )
