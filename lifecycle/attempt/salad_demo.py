"""The file names of SaladCloud's demo application, kept for jobs that came as its messages.

`state.txt` (four lines: start, end, finished step, sum) and `logs.txt` follow each committed checkpoint; `logs.txt` is
the history over all attempts. They are copies for people and for the demo's scripts. Nothing here reads them as the
truth, with one exception: a job that never had a checkpoint continues from the `state.txt` that the demo's own worker
left, in the demo's first form (two lines: finished step, sum) or its second (the four lines), unless `holdfast retry
--from-start` has removed it. A `state.txt` in any other form is an error: it would otherwise be overwritten.
"""

import json
import re
from pathlib import Path
from typing import Final

from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.errors import HoldfastError, PermanentError
from lifecycle.job_record import JobRecord, Progress
from lifecycle.key_layout import JobKeys
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore
from lifecycle.structured_log import StructuredLogger

STATE: Final = "state.txt"
LOGS: Final = "logs.txt"
STATE_FORM: Final = re.compile(rb"\s*-?\d{1,4000}\s+-?\d{1,4000}(?:(?:\s+-?\d{1,4000}){2})?\s*")

log = StructuredLogger("holdfast.salad_demo")


class DemoFiles:
    """Keeps one job's `state.txt` and `logs.txt`.

    Args:
        store: The bucket.
        clock: Time of each line.
        keys: The job's keys.
        node: Name of the node, for the lines.
    """

    def __init__(self, store: ObjectStore, clock: Clock, *, keys: JobKeys, node: str) -> None:
        self._store = store
        self._clock = clock
        self._keys = keys
        self._node = node
        self._lines: list[str] = []
        self._earlier: bytes | None = None

    def fetch_state(self, into: Path) -> bool:
        """Copy the state that the demo's own worker left into *into*, and return whether there was one.

        Raises:
            RetryableError: It could not be read; nothing is known of it.
            PermanentError: It has neither of the demo's two forms.
        """
        stored = self._store.get(f"{self._keys.folder}{STATE}")
        if stored is None:
            return False
        if not STATE_FORM.fullmatch(stored.body):
            raise PermanentError(
                f"{self._keys.folder}{STATE} holds neither two nor four whole numbers, so there is no telling how far"
                f" the job was; to begin at its start: `holdfast retry {self._keys.job} --from-start`"
            )
        (into / STATE).write_bytes(stored.body)
        return True

    def began(self, record: JobRecord) -> None:
        """Add the line with which an attempt begins."""
        self._add_line(f'Begin processing the job - {{"attempt": {record.epoch}}}')

    def committed(self, snapshot: Snapshot, progress: Progress) -> None:
        """Bring both files up to a commit. Never fails."""
        share = 100 * snapshot.step / progress.total if snapshot.step and progress.total else 0.0
        self._add_line(
            "Saving the state" + (f" at the step {snapshot.step}, finished {share:.2f}%" if snapshot.step else "")
        )
        state = snapshot.directory / "checkpoint" / STATE
        if state.is_file():
            self._put(STATE, state.read_bytes())
        self._put_logs()

    def ended(self, record: JobRecord, cause: str) -> None:
        """Close the history of an attempt. Never fails."""
        if record.result:
            self._add_line("The job is done")
        else:
            done = record.progress.done
            where = "before its first step" if done is None else f"at the step {done}"
            reason = f"{cause}: {record.error}" if record.error else cause
            self._add_line(f"Stop executing the job {where}, the reasons: {json.dumps([reason])}")
        self._put_logs()

    def _add_line(self, text: str) -> None:
        self._lines.append(f"UTC Time: {self._clock.now():%Y-%m-%d %H:%M:%S} - Machine ID: {self._node} - {text}\n")

    def _put_logs(self) -> None:
        try:
            if self._earlier is None:
                stored = self._store.get(f"{self._keys.folder}{LOGS}")
                self._earlier = stored.body if stored else b""
                if self._earlier and not self._earlier.endswith(b"\n"):  # the demo ends its last line with nothing
                    self._earlier += b"\n"
        except HoldfastError as error:
            log.warning("salad_demo.logs_unreadable", job=self._keys.job, error=error)
        else:
            self._put(LOGS, self._earlier + "".join(self._lines).encode())

    def _put(self, name: str, body: bytes) -> None:
        try:
            self._store.put(f"{self._keys.folder}{name}", body)
        except HoldfastError as error:
            log.warning("salad_demo.file_not_written", job=self._keys.job, file=name, error=error)
