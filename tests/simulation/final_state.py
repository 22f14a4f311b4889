"""Checks of the end of a history, after all faults have stopped and all jobs are over."""

from typing import TYPE_CHECKING, Final

from attrs import frozen
from simulation.checker import CANCEL, FOREIGN, LAYOUT, LIVENESS, ONE_WINNER, TIDY, Planned

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
            self._published(job, record, planned)
        elif not self._is_true(planned, record):
            raise checker.broken(LIVENESS, f"{job} failed without a true reason: {record.error}")

    def _published(self, job: str, record: JobRecord, planned: Planned) -> None:
        """Check that what is published is the planned result, unless that was damaged."""
        checker, result = self.history.checker, record.result
        published = self.history.store._objects.get(f"{LAYOUT.job(job).output}output.txt")
        damaged = result is not None and checker.truth.was_spoilt(result.manifest)
        if planned.total is None or not (damaged or (published and published.body == f"{planned.total}\n".encode())):
            raise checker.broken(ONE_WINNER, f"{job} gave {(published and published.body)!r}, not {planned.total}")
        if result and result.problem and not damaged:
            raise checker.broken(ONE_WINNER, f"{job}: {result.problem}")

    def _is_true(self, planned: Planned, record: JobRecord) -> bool:
        """Return True if a job failed for the reason that its record gives."""
        error, refs = record.error or "", [ref for ref in (record.checkpoint, record.fallback) if ref]
        if "no checkpoint is sound" in error:
            return bool(refs) and all(self.history.checker.truth.was_spoilt(ref) for ref in refs)
        if "vanished" in error:
            return record.deaths >= self.history.limits.max_lost_attempts
        return bool(planned.fails_with) and planned.fails_with in error

    def _tidy(self, job: str, record: JobRecord) -> None:
        """Check that objects outside the last two manifests are gone, except what late or superseded writers left."""
        checker, named = self.history.checker, set[str]()
        older = (*record.suspects, record.announced, record.proven)
        for ref in (record.checkpoint, record.fallback, record.result.manifest if record.result else None, *older):
            if ref:
                named |= checker.truth.objects_of(ref)
        folder = LAYOUT.job(job).folder
        left = {key for key in self.history.store._objects if key.startswith(folder) and epoch_of(key)} - named
        allowed = MOST_LEFT * max(record.epoch, 1) if self.history.faults else 0
        if len(left) > allowed:
            raise checker.broken(TIDY, f"{job} left {len(left)} objects behind: {sorted(left)}")
