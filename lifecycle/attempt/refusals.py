"""Jobs that a node leaves to others: their messages are returned, and their records are not written."""

from datetime import timedelta
from typing import Final

from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.outcome import LONGEST_MISFIT_DELAY, MISFIT_DELAY
from lifecycle.attempt.self_assessment import SelfAssessment
from lifecycle.attempt.staging import fitting_launch
from lifecycle.errors import HoldfastError, MisfitError, PermanentError
from lifecycle.job_record import JobRecord
from lifecycle.ports.queue import Delivery
from lifecycle.ports.runner import JobDirs
from lifecycle.record.blame import fits_nowhere
from lifecycle.record.record_store import StoredRecord
from lifecycle.structured_log import StructuredLogger

ELSEWHERE_DELAY: Final = timedelta(seconds=30)  # the message is hidden from other nodes, too
SHORTEST_SHARE: Final = 0.5  # of a delay, so that it is not always this node that receives the message next
FEW_RECEIVES: Final = 3  # no sensible queue moves messages away so soon

log = StructuredLogger("holdfast.refusals")


class Refusals:
    """Decides which free jobs a node leaves to others. Used by one thread.

    Args:
        context: The worker's ports and limits.
        assessment: What the node remembers.
    """

    def __init__(self, context: WorkerContext, assessment: SelfAssessment) -> None:
        self._context = context
        self._assessment = assessment
        self._receive_limit: int | None = None
        self._has_read_limit = False

    def delay_of(self, stored: StoredRecord, delivery: Delivery) -> timedelta:
        """Return for how long to leave a free job to other nodes; zero to take it.

        A job that this node cannot run is taken once, so that its record says what is missing here, and again when the
        job has waited too long, to fail it.
        """
        record = stored.record
        if fits_nowhere(record, self._context.limits, age_s=stored.age_s or 0.0):
            return timedelta(0)
        left = self._assessment.left_to_others(record.job)
        if left and (record.failures or record.misfits.seen):
            log.info("job.left_to_others", job=record.job, reason="it was tried here")
            return self._shortened(min(left, self._misfit_delay(delivery) if record.misfits.seen else ELSEWHERE_DELAY))
        if lacks := self._known_to_lack(record):
            log.info("job.left_to_others", job=record.job, reason=f"this image lacks {lacks}")
            return self._shortened(self._misfit_delay(delivery))
        return timedelta(0)

    def _known_to_lack(self, record: JobRecord) -> str | None:
        """Return what the record says that this image lacks, if that is still so; None if the job may be tried."""
        context = self._context
        if not record.misfits.seen:
            return None
        try:
            fitting_launch(context, record, JobDirs(context.work_dir / record.job))
        except MisfitError as error:
            return error.lacks if record.misfits.has(context.image or context.node.machine, error.lacks) else None
        except PermanentError:
            pass  # the attempt fails the job, with this reason
        return None

    def _misfit_delay(self, delivery: Delivery) -> timedelta:
        return min(MISFIT_DELAY * delivery.receives, LONGEST_MISFIT_DELAY)

    def _shortened(self, delay: timedelta) -> timedelta:
        return delay * self._context.rng.uniform(SHORTEST_SHARE, 1.0)

    def limit_of(self, delivery: Delivery) -> int | None:
        """Return the queue's limit on receives; None if there is none, or if this message is far from any."""
        if not self._has_read_limit and delivery.receives >= FEW_RECEIVES:
            try:
                self._receive_limit = self._context.queue.receive_limit()
            except HoldfastError as error:
                log.warning("receive_limit.unknown", error=error)
            else:
                self._has_read_limit = True
        return self._receive_limit
