"""The file names of the demo that Holdfast grows from, kept for jobs that came as its messages.

`state.txt` (four lines: start, end, finished step, sum) and `logs.txt` follow each committed checkpoint; `logs.txt` is
the history over all attempts. They are copies for people and for that demo's scripts: nothing here ever reads them as
the truth, but for one case: a job that never had a checkpoint goes on from the `state.txt` that the demo's own worker
left, unless `holdfast retry --from-start` has removed it.
Line format: the demo's logs, as `../shared/facts/field.md` describes them.
"""

import logging
from pathlib import Path
from typing import Final

from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.errors import HoldfastError
from lifecycle.job_record import JobRecord, Progress
from lifecycle.key_layout import JobKeys
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore

STATE: Final = "state.txt"
LOGS: Final = "logs.txt"
STATE_LINES: Final = 4
MAX_STATE_BYTES: Final = 1 << 16

log = logging.getLogger("holdfast.demo")


class DemoFiles:
    """Keeps one job's `state.txt` and `logs.txt`.

    Args:
        store: Where.
        clock: For the lines.
        keys: The job's keys.
        node: Who writes.
    """

    def __init__(self, store: ObjectStore, clock: Clock, *, keys: JobKeys, node: str) -> None:
        self._store = store
        self._clock = clock
        self._keys = keys
        self._node = node
        self._lines: list[str] = []
        self._earlier: bytes | None = None

    def fetch_state(self, into: Path) -> bool:
        """Put the state that the demo's own worker left into *into*, if there is one in its four lines.

        Raises:
            RetryableError: It could not be read; nothing is known of it.
        """
        stored = self._store.get(f"{self._keys.folder}{STATE}")
        if stored is None or len(stored.body) > MAX_STATE_BYTES or len(stored.body.split()) != STATE_LINES:
            return False
        (into / STATE).write_bytes(stored.body)
        return True

    def began(self, record: JobRecord) -> None:
        """Add the line with which an attempt begins."""
        self._say(f'Begin processing the job - {{"attempt": {record.epoch}}}')

    def committed(self, snapshot: Snapshot, progress: Progress) -> None:
        """After a commit: bring both files up to it. Never fails."""
        share = 100 * snapshot.step / progress.total if snapshot.step and progress.total else 0.0
        self._say(f"Saving the state at the step {snapshot.step}, finished {share:.2f}%")
        state = snapshot.directory / "checkpoint" / STATE
        if state.is_file():
            self._put(STATE, state.read_bytes())
        self._put_logs()

    def ended(self, record: JobRecord, cause: str) -> None:
        """After an attempt: close its history. Never fails."""
        if record.result:
            self._say("The job is done")
        else:
            self._say(f'Stop executing the job at the step {record.progress.done}, the reasons: ["{cause}"]')
        self._put_logs()

    def _say(self, what: str) -> None:
        self._lines.append(f"UTC Time: {self._clock.now():%Y-%m-%d %H:%M:%S} - Machine ID: {self._node} - {what}\n")

    def _put_logs(self) -> None:
        try:
            if self._earlier is None:
                stored = self._store.get(f"{self._keys.folder}{LOGS}")
                self._earlier = stored.body if stored else b""
        except HoldfastError as error:
            log.warning("%s of %s not read, so not written: %s", LOGS, self._keys.job, error)
        else:
            self._put(LOGS, self._earlier + "".join(self._lines).encode())

    def _put(self, name: str, body: bytes) -> None:
        try:
            self._store.put(f"{self._keys.folder}{name}", body)
        except HoldfastError as error:
            log.warning("%s of %s not written: %s", name, self._keys.job, error)
