"""The attempt event log: what one attempt did, one JSON object a line, for `holdfast logs` and for people.

Each attempt writes its own key, so no fence is needed. The log is for people only: failing to store it harms nothing.
"""

import json
from typing import Any, Final

from lifecycle.errors import HoldfastError
from lifecycle.job_record import iso
from lifecycle.key_layout import JobKeys
from lifecycle.ports.clock import Clock
from lifecycle.ports.observer import Observer
from lifecycle.ports.store import ObjectStore

KEPT_LINES: Final = 5000


class EventLog:
    """Lines `{"at", "epoch", "node", "event", …}`, the newest KEPT_LINES of them. Thread-safe.

    Args:
        clock: Time of each line.
        observer: Hears of each line.
        epoch: The attempt's number.
        node: The node's name.
    """

    def __init__(self, clock: Clock, observer: Observer, *, epoch: int, node: str) -> None:
        self._clock = clock
        self._observer = observer
        self._epoch = epoch
        self._node = node
        self._lines: list[str] = []
        self._flushed = 0
        self._written = 0

    def write(self, event: str, **facts: Any) -> None:
        """Add a line; *facts* are JSON values. Never fails, never waits."""
        line = {"at": iso(self._clock.now()), "epoch": self._epoch, "node": self._node, "event": event, **facts}
        self._lines.append(json.dumps(line, default=str))
        self._written += 1
        del self._lines[:-KEPT_LINES]
        self._observer.noted(line)

    def flush(self, store: ObjectStore, keys: JobKeys) -> None:
        """Store the log, if there is anything new. Never fails."""
        written = self._written
        if written == self._flushed:
            return
        body = "".join(f"{line}\n" for line in list(self._lines)).encode()
        try:
            store.put(keys.log(self._epoch), body)
        except HoldfastError as error:
            self.write("log_not_stored", error=str(error))
        else:
            self._flushed = written
