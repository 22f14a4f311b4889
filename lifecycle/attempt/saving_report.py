"""Reports in the record whether the job's work is being saved, and if not, why and what to do."""

from enum import StrEnum

from attrs import evolve

from lifecycle.attempt.phases import ClaimedJob
from lifecycle.job_record import Saving, iso

LONGEST_CHARS = 500


class Topic(StrEnum):
    """Subject of a part of the report. The most urgent comes first."""

    CAPTURE = "capture"
    """No snapshot could be taken."""
    UPLOAD = "upload"
    """No snapshot can be uploaded, or not fast enough."""
    FREEZE = "freeze"
    """The program was stopped for long."""
    SKIPPED = "skipped"
    """Something cannot be saved."""


class SavingReport:
    """The report of one attempt. It travels with the next write of the record.

    Args:
        claimed: The claim.
    """

    def __init__(self, claimed: ClaimedJob) -> None:
        self._claimed = claimed
        self._problems: dict[Topic, str] = {}
        self._saved_at = iso(claimed.context.clock.now())
        self._noted: Saving | None = None

    def note(self, topic: Topic, problem: str | None) -> None:
        """Replace the part about *topic*; None if there is no problem. Safe to repeat."""
        self._problems.pop(topic, None)
        if problem:
            self._problems[topic] = problem
        self._write()

    def note_saved(self) -> None:
        """Note that the state is saved as it is now."""
        self._saved_at = iso(self._claimed.context.clock.now())
        for topic in (Topic.CAPTURE, Topic.UPLOAD):
            self._problems.pop(topic, None)
        self._write()

    def _write(self) -> None:
        saving = self._saving()
        if saving != self._noted:
            self._noted = saving
            self._claimed.session.note("saving", lambda record: evolve(record, saving=saving))

    def _saving(self) -> Saving | None:
        if not self._problems:
            return None
        text = "; ".join(self._problems[topic] for topic in Topic if topic in self._problems)
        is_behind = not self._problems.keys().isdisjoint({Topic.CAPTURE, Topic.UPLOAD})
        return Saving(text[:LONGEST_CHARS], self._saved_at if is_behind else None)
