"""Delivering the notices in the outboxes of jobs that no attempt works on: after a cancel or retry, and at a reconcile.

Delivered notices are removed by compare-and-swap. A job that an attempt owns, or owned until its node vanished, is left
unchanged: that attempt or the next one delivers its notices, and a write would renew the lease of a dead owner.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

from attrs import define, field, frozen

from client.config.environment import Environment
from client.records.reader import READERS
from lifecycle.errors import ConfigError, HoldfastError, PermanentError, RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice
from lifecycle.record.notifications import NotificationPolicy, with_notice, without_delivered
from lifecycle.record.record_store import StoredRecord, WriteConflict
from lifecycle.states import OWNED

TRIES: Final = 10  # an owner writes once per heartbeat, so a few are enough
ATTEMPT_GRACE: Final = timedelta(minutes=1)
"""After its last write, an attempt has this long to deliver its own notices before anything else does."""


@frozen
class DeliveryResult:
    """The result of delivering one job's notices.

    Attributes:
        job: The job's id.
        delivered: Notices that were delivered, or rejected for good.
        left: Notices that remain in the record.
        problem: Why notices remain, or another error; None if there was none.
        rejected: A line for each notice that the receiver rejected for good; it is dropped.
    """

    job: str
    delivered: int = 0
    left: int = 0
    problem: str | None = None
    rejected: tuple[str, ...] = ()


def add_notice(env: Environment, record: JobRecord, cause: str) -> JobRecord:
    """Return *record* with a notice of its state, if that state is reported.

    Args:
        env: The environment with the notification policy.
        record: The record that an operator's action is about to write, with a new epoch.
        cause: The action.
    """
    if env.notification_policy is None or record.state not in env.notification_policy.states:
        return record
    return with_notice(record, env.layout.job(record.job), number=1, at=env.clock.now(), cause=cause)


def has_undelivered_notices(stored: StoredRecord, older: timedelta) -> bool:
    """Return True if notices are in the outbox that no attempt is about to deliver.

    Args:
        stored: The job's record.
        older: Ignore records written more recently than this, or than ATTEMPT_GRACE if that is shorter. A record of
            unknown age counts as old: a notice that is delivered twice is recognised.
    """
    is_recent = stored.age_s is not None and stored.age_s < min(older, ATTEMPT_GRACE).total_seconds()
    return _is_ours_to_deliver(stored.record) and not is_recent


def _is_ours_to_deliver(record: JobRecord) -> bool:
    """Return True if notices are waiting, no attempt will deliver them, and the record may still be changed."""
    return bool(record.outbox.notices) and record.state not in OWNED and not record.archived


def deliver_notices(env: Environment, jobs: Sequence[str]) -> list[DeliveryResult]:
    """Deliver the notices in the outboxes of *jobs*; nothing if no webhook is configured. Safe to repeat.

    Once the receiver cannot be reached, jobs that were not begun are left: they would fare no better.

    Raises:
        ConfigError: The bucket or its credentials are wrong.
    """
    if env.notification_policy is None or not jobs:
        return []
    delivery = NoticeDelivery(env, env.notification_policy)
    with ThreadPoolExecutor(READERS) as pool:
        return [result for result in pool.map(delivery.deliver, jobs) if result is not None]


def deliver_after_change(env: Environment, jobs: Sequence[str]) -> list[str]:
    """Deliver the notices of *jobs* that were just changed; never fails.

    Returns:
        A line for each rejected notice, and one for all notices that remain; they stay in their records.
    """
    try:
        results = deliver_notices(env, jobs)
    except ConfigError as error:
        results = [DeliveryResult(job, problem=str(error)) for job in jobs[:1]]
    left = [result for result in results if result.problem]
    return [*rejections(results), *([summary(left)] if left else [])]


def rejections(results: Iterable[DeliveryResult]) -> list[str]:
    """Return a line for each notice that was rejected for good."""
    return [line for result in results for line in result.rejected]


def summary(left: Sequence[DeliveryResult]) -> str:
    """Return one line on the jobs with notices left, with the first reason."""
    jobs = f"{len(left)} jobs" if len(left) > 1 else left[0].job
    reason = next(result.problem for result in left if result.problem)
    return (
        f"state changes of {jobs} are not delivered yet ({reason}): they stay in the record, and"
        " `holdfast reconcile` delivers them"
    )


@define
class NoticeDelivery:
    """One round of deliveries.

    Attributes:
        env: The jobs' environment.
        policy: The notification policy, with the notifier.
        outage: Why the receiver cannot be reached, once that is known.
    """

    env: Environment
    policy: NotificationPolicy
    outage: str | None = field(default=None, init=False)

    def deliver(self, job: str) -> DeliveryResult | None:
        """Deliver the notices of *job*; return None if it has none, or an attempt will deliver them.

        Raises:
            ConfigError: The bucket or its credentials are wrong.
        """
        keys = self.env.layout.job(job)
        rejected: list[str] = []
        try:
            stored = self.env.record_store.read(keys.record)
            if stored is None or not _is_ours_to_deliver(stored.record):
                return None
            notices = stored.record.outbox.notices
            done = self._deliver(keys, notices, rejected)
            if done:
                self._remove(keys, stored, done)
        except ConfigError:
            raise
        except HoldfastError as error:
            return DeliveryResult(job, problem=str(error), rejected=tuple(rejected))
        left = len(notices) - len(done)
        return DeliveryResult(job, len(done), left, self.outage if left else None, tuple(rejected))

    def _deliver(self, keys: JobKeys, notices: Sequence[Notice], rejected: list[str]) -> list[str]:
        """Deliver *notices* in order until the receiver cannot be reached; return the ids of those that are done."""
        done: list[str] = []
        for notice in notices:
            if self.outage:
                break
            try:
                self.policy.notifier.deliver(keys, notice)
            except RetryableError as error:
                self.outage = str(error)
                break
            except PermanentError as error:
                rejected.append(f"notice {notice.id} was rejected and is dropped: {error}")
            done.append(notice.id)
        return done

    def _remove(self, keys: JobKeys, stored: StoredRecord, done: list[str]) -> None:
        """Remove delivered notices from the record.

        If an attempt takes the job meanwhile, it inherits the notices and may deliver them again.
        """
        for _ in range(TRIES):
            answer = self.env.record_store.write(keys.record, without_delivered(done)(stored.record), stored.version)
            if not isinstance(answer, WriteConflict):
                return
            if answer.found is None or not _is_ours_to_deliver(answer.found.record):
                return
            stored = answer.found
        raise RetryableError(f"the record was changed by others {TRIES} times in a row; try again")
