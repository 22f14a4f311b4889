"""Checks of the end of a history, after all faults have stopped and all jobs are over."""

from typing import TYPE_CHECKING, Final

from attrs import frozen
from simulation.checker import CANCEL, FOREIGN, LAYOUT, LIVENESS, ONE_WINNER, TIDY, Planned
from simulation.faults import SPOILING

from lifecycle.job_record import JobRecord
from lifecycle.key_layout import epoch_of
from lifecycle.states import State

if TYPE_CHECKING:
    from simulation.history import History

MOST_LEFT: Final = 6
"""Objects that one attempt may leave behind: two uploads in flight, and failed removals."""


@frozen
class FinalState:
    """Checks the end of a history."""

    history: "History"

    def look(self) -> None:
        """Check everything.

        Raises:
            Violation: An invariant is broken.
        """
        checker = self.history.checker
        for job, record in checker.records.items():
            self._ended_right(job, record)
            self._tidy(job, record)
        self.history.notifier.expect_all_told()
        if left := [job for job in self.history.queue.jobs() if not job.startswith(FOREIGN)]:
            raise checker.broken(TIDY, f"messages are left: {left}")
        for node in self.history.nodes:
            found = [path.name for path in node.disk.glob("*") if not path.name.startswith(".")]  # .tmp: for any job
            if len(found) > 1:
                raise checker.broken(TIDY, f"{node.process.name} keeps the files of {found}")

    def _ended_right(self, job: str, record: JobRecord) -> None:
        checker = self.history.checker
        planned = checker.planned[job]
        if record.state is State.CANCELLED:
            if checker.truth.jobs[job].cancelled_at is None:
                raise checker.broken(
                    CANCEL, f"{job} was cancelled, and nothing had asked for that since its last retry"
                )
        elif record.state is State.COMPLETED:
            published = self.history.store._objects.get(f"{LAYOUT.job(job).output}output.txt")
            if not checker.spoilt and (not published or published.body != f"{planned.total}\n".encode()):
                raise checker.broken(ONE_WINNER, f"{job} gave {(published and published.body)!r}, not {planned.total}")
        elif not self._is_true(planned, record):
            raise checker.broken(LIVENESS, f"{job} failed without a true reason: {record.error}")

    def _is_true(self, planned: Planned, record: JobRecord) -> bool:
        """Return True if a job failed for the reason that its record gives."""
        error, counts = record.error or "", self.history.counts
        if "no checkpoint is sound" in error:
            return any(counts[what] for what in SPOILING)
        if "vanished" in error:
            return record.deaths >= self.history.limits.max_lost_attempts
        return bool(planned.fails_with) and planned.fails_with in error

    def _tidy(self, job: str, record: JobRecord) -> None:
        """Check that objects outside the last two manifests are gone, except what late or superseded writers left."""
        checker, named = self.history.checker, set()
        older = (*record.suspects, record.announced, record.proven)
        for ref in (record.checkpoint, record.fallback, record.result.manifest if record.result else None, *older):
            if ref and ref.manifest in checker.spoilt:
                return  # its contents are unknown
            if ref and (manifest := checker.manifest(ref)):
                named |= {ref.manifest, *manifest.packs}
        folder = LAYOUT.job(job).folder
        left = {key for key in self.history.store._objects if key.startswith(folder) and epoch_of(key)} - named
        allowed = MOST_LEFT * max(record.epoch, 1) if self.history.faults else 0
        if len(left) > allowed:
            raise checker.broken(TIDY, f"{job} left {len(left)} objects behind: {sorted(left)}")
