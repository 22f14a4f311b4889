"""Faults of Holdfast's own: unexpected exceptions while one job is handled. They cost the job a try, not the worker."""

from lifecycle.structured_log import StructuredLogger

log = StructuredLogger("holdfast.defects")


def log_defect(subject: str, error: Exception) -> None:
    """Log the exception that is being handled, with its traceback.

    Args:
        subject: The job, or the id of the message if no job is known.
        error: The exception.
    """
    log.exception("job.handling_failed", subject=subject, error=f"{type(error).__name__}: {error}")  # noqa: LOG004 - called by a handler
