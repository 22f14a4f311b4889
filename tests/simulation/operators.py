"""Operators: each command is a process of its own, which may die, lose an answer or act late at any of its calls."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from simulation.checker import LAYOUT, MESSAGE, OPERATOR
from simulation.ports import Road
from simulation.world import Process, WorldClock

from adapters.retrying import RetryingQueue, RetryingStore
from adapters.webhook import RetryingNotifier
from client.config.environment import Environment
from client.config.settings import from_environ
from client.operations import job_control
from client.operations.archiving import ArchiveResult, archive_batch
from client.operations.notices import deliver_notices
from client.operations.reconciliation import find_pending, send_missing
from client.records.reader import read_all
from lifecycle.errors import HoldfastError
from lifecycle.job_record import JobRecord
from lifecycle.record.notifications import NotificationPolicy
from lifecycle.record.record_store import RecordStore
from lifecycle.states import OWNED

if TYPE_CHECKING:
    from simulation.history import History

RECONCILE: Final = "reconcile"
ARCHIVE: Final = "archive"
JOB_ACTIONS: Final[dict[str, Callable[[Environment, str], str]]] = {
    "cancel": job_control.cancel,
    "retry": job_control.retry,
    "retry from start": job_control.retry_from_start,
}
"""Commands that change one job."""
COMMANDS: Final = (*JOB_ACTIONS, RECONCILE, ARCHIVE)
RIPE: Final = timedelta(seconds=200)
"""Age at which jobs are archived: longer than any worker sleeps between reading a record and taking the job."""
AGE_SLACK_S: Final = 2.0
"""Ages are differences of whole seconds, and an owner is granted one more."""


class Operators:
    """Runs operators' commands in a history.

    Args:
        history: The history.
    """

    def __init__(self, history: "History") -> None:
        self._history = history
        self._world = history.world
        self._checker = history.checker
        self._count = 0

    def run(self, command: str, job: str = "", *, older: timedelta = RIPE) -> None:
        """Begin *command*, one of COMMANDS, as a process of its own.

        Args:
            command: What to do.
            job: The job to do it to, unless the command is for all jobs.
            older: The age at which jobs are archived.
        """
        self._count += 1
        process = Process(f"{OPERATOR}{self._count}")
        self._checker.truth.doing[process.name] = (command, job)
        mishap = partial(self._history.mishap_of_operator, f"{OPERATOR} {command}")
        road = Road(self._world, process, self._checker, mishap=mishap, crash=partial(self._die, process))
        self._world.spawn(process, lambda: self._try(self._env(road), process, command, job, older), name=command)

    def _die(self, process: Process) -> None:
        self._world.tell(process.name, "dies")
        process.is_dead = True

    def _try(self, env: Environment, process: Process, command: str, job: str, older: timedelta) -> None:
        self._world.tell(process.name, f"{command} {job}".strip())
        try:
            if command == RECONCILE:
                done = self._reconcile(env)
            elif command == ARCHIVE:
                done = self._archive(env, older)
            else:
                done = self._change(env, command, job)
            self._world.tell(process.name, f"{command} {job}: {done}")
        except HoldfastError as error:
            self._world.tell(process.name, f"{command} {job}: {error}")

    def _change(self, env: Environment, command: str, job: str) -> str:
        began = self._world.time
        done = JOB_ACTIONS[command](env, job)
        self._checker.truth.acknowledged(command, job, since=began)
        self._checker.unannounced.discard(job)
        deliver_notices(env, [job])
        return done

    def _reconcile(self, env: Environment) -> str:
        began, forgotten = self._world.time, self._forgotten()
        pending = find_pending(env, read_all(env), self._history.limits.lease, dry_run=False)
        refused = [each.job for each in send_missing(env, pending.missing) if each.problem]
        unread = [job for job in forgotten if any(line.startswith(f"{job}: ") for line in pending.problems)]
        self._expect_announced(forgotten, began, [*refused, *unread])
        problems = [each.problem for each in deliver_notices(env, pending.undelivered) if each.problem]
        return f"{len(pending.missing)} messages sent, {len(refused) + len(problems) + len(pending.problems)} problems"

    def _forgotten(self) -> dict[str, JobRecord]:
        """Return the records of the jobs that the world knows to need a message."""
        now, lease_s = self._world.time, self._history.limits.lease.total_seconds()
        return {
            job: record
            for job, record in self._checker.records.items()
            if not record.is_settled
            and not record.archived
            and now - self._checker.written_at[job] > lease_s + AGE_SLACK_S
            and not (record.state in OWNED and self._history.kind.clockless)
        }

    def _expect_announced(self, forgotten: dict[str, JobRecord], began: float, refused: list[str]) -> None:
        """Check that each forgotten job that nothing has changed meanwhile was sent a message."""
        for job, record in forgotten.items():
            is_same = self._checker.records[job].write_id == record.write_id
            if is_same and job not in refused and not self._checker.truth.was_sent(job, began):
                raise self._checker.broken(MESSAGE, f"{job} is {record.state}, and reconcile sent no message for it")

    def _archive(self, env: Environment, older: timedelta) -> str:
        result = ArchiveResult()
        records = [found.stored.record for found in read_all(env) if found.stored]
        gone = [record.job for record in archive_batch(env, records, older, result)]
        return f"{gone} are archived, {len(result.problems)} problems"

    def _env(self, road: Road) -> Environment:
        history, clock = self._history, WorldClock(self._world, road.process)
        store: Any = RetryingStore(road.to(history.store, "store"), clock)
        queue: Any = RetryingQueue(road.to(history.queue, "queue"), clock)
        notifier: Any = RetryingNotifier(road.to(history.notifier, "notifier"), clock)
        return Environment(
            settings=from_environ({}, None),
            clock=clock,
            queue=queue,
            store=store,
            record_store=RecordStore(store, clock, self._world.rng),
            layout=LAYOUT,
            bucket="",
            limits=history.limits,
            notification_policy=NotificationPolicy(notifier) if history.kind.webhooks else None,
        )


class Inline:
    """A thread pool without threads."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, call: Callable[..., Any], *items: Any) -> Iterator[Any]:
        """Call *call* for each item when its result is asked for."""
        return map(call, *items)

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        """Call *call* at once."""
        done: Future[Any] = Future()
        done.set_result(call(*args))
        return done
