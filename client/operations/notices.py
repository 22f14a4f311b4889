"""Delivering what lies in the outboxes of jobs that no attempt is at: after a cancel or a retry, and at a reconcile.

What is delivered is taken out by compare-and-swap. A job that an attempt owns, or owned until its node vanished, is
left alone: the attempt, or the next one, delivers; and a write would renew the lease of whoever is gone.
"""

import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

from attrs import define, frozen

from client.config.composition import Environment
from client.records.reader import READERS
from lifecycle.errors import ConfigError, HoldfastError, PermanentError, RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice
from lifecycle.record.notifications import NotificationPolicy, with_notice, without_delivered
from lifecycle.record.record_store import StoredRecord, WriteConflict
from lifecycle.states import OWNED

TRIES: Final = 10  # as client.operations.job_control has it
LEFT: Final = timedelta(minutes=1)
"""An attempt that ended so long ago has done what it could."""


@frozen
class Told:
    """What became of one job's notices.

    Attributes:
        job: Its id.
        delivered: How many were delivered, or refused for good.
        left: How many are left, for the next time.
        problem: Why they are, or what else went wrong; None if nothing did.
    """

    job: str
    delivered: int = 0
    left: int = 0
    problem: str | None = None


def noticed(env: Environment, record: JobRecord, cause: str) -> JobRecord:
    """*record* with a notice of the state that an operator brings it into, under a new epoch, if that is told."""
    if env.notification_policy is None or record.state not in env.notification_policy.states:
        return record
    return with_notice(record, env.layout.job(record.job), number=1, at=env.clock.now(), cause=cause)


def is_untold(stored: StoredRecord, older: timedelta) -> bool:
    """Whether notices lie in the outbox that nobody is about to deliver."""
    return _may_tell(stored.record) and stored.age_s >= min(older, LEFT).total_seconds()


def _may_tell(record: JobRecord) -> bool:
    """Whether there is something to tell that neither an attempt will, nor anybody may take out any more."""
    return bool(record.outbox.notices) and record.state not in OWNED and not record.archived


def tell(env: Environment, jobs: Sequence[str]) -> list[Told]:
    """Deliver what lies in the outboxes of *jobs*; nothing where nobody is to be told. Safe to repeat.

    Once the receiver cannot be reached, what is not begun is left: the next one would fare no better.

    Raises:
        ConfigError: Wrong bucket or credentials.
    """
    if env.notification_policy is None or not jobs:
        return []
    round_ = _Round(env, env.notification_policy)
    with ThreadPoolExecutor(READERS) as pool:
        return [told for told in pool.map(round_.tell, jobs) if told is not None]


def tell_quietly(env: Environment, jobs: Sequence[str]) -> None:
    """The same, after something else that was done and said; what is left is a line on stderr."""
    try:
        left = [told for told in tell(env, jobs) if told.problem]
    except ConfigError as error:
        left = [Told(job, problem=str(error)) for job in jobs[:1]]
    if left:
        print(f"holdfast: {summary(left)}", file=sys.stderr)


def summary(left: Iterable[Told]) -> str:
    """One line on what is left, and the first reason why."""
    all_left = list(left)
    jobs = f"{len(all_left)} jobs" if len(all_left) > 1 else all_left[0].job
    reason = next(told.problem for told in all_left if told.problem)
    return (
        f"the changes of {jobs} are not told yet ({reason}): they stay in the record; `holdfast reconcile` tells them"
    )


@define
class _Round:
    """One round of telling.

    Attributes:
        env: Where.
        notification_policy: Through whom.
        trouble: Why the receiver cannot be reached, once that is known.
    """

    env: Environment
    notification_policy: NotificationPolicy
    trouble: str | None = None

    def tell(self, job: str) -> Told | None:
        """Deliver one job's; None if there is nothing to deliver, or an attempt will."""
        keys = self.env.layout.job(job)
        try:
            stored = self.env.record_store.read(keys.record)
            if stored is None or not _may_tell(stored.record):
                return None
            notices = stored.record.outbox.notices
            done = self._deliver(keys, notices)
            if done:
                self._take_out(keys, stored, done)
        except ConfigError:
            raise
        except HoldfastError as error:
            return Told(job, problem=str(error))
        left = len(notices) - len(done)
        return Told(job, len(done), left, self.trouble if left else None)

    def _deliver(self, keys: JobKeys, notices: Sequence[Notice]) -> list[str]:
        done: list[str] = []
        for notice in notices:
            if self.trouble:
                break
            try:
                self.notification_policy.notifier.deliver(keys, notice)
            except RetryableError as error:
                self.trouble = str(error)
                break
            except PermanentError as error:
                print(f"holdfast: {notice.id} is dropped: {error}", file=sys.stderr)
            done.append(notice.id)
        return done

    def _take_out(self, keys: JobKeys, stored: StoredRecord, done: list[str]) -> None:
        """Take out what was delivered; whoever took the job meanwhile carries them on, and may deliver them again."""
        for _ in range(TRIES):
            answer = self.env.record_store.write(keys.record, without_delivered(done)(stored.record), stored.version)
            if not isinstance(answer, WriteConflict):
                return
            if answer.found is None or not _may_tell(answer.found.record):
                return
            stored = answer.found
        raise RetryableError("somebody else wrote its record again and again")
