"""Doctor's checks of the queue: credentials, retention, dead letters."""

from collections.abc import Iterator, Mapping
from typing import Final

from adapters.aws.admin import QueueAdmin, redrive_of
from client.config.composition import open_admins
from client.config.environment import Environment
from client.operations.provisioning import MAX_RECEIVES, RETENTION_S
from client.views.check_result import CheckResult
from lifecycle.errors import HoldfastError
from lifecycle.ports.queue import JobQueue

FEWEST_RECEIVES: Final = 100
DAY_S: Final = 86400


def check_queue(env: Environment) -> Iterator[CheckResult]:
    """Check that the queue can be reached, and its attributes. A check that depends on a failed one is left out."""
    if not env.settings.is_cloud:
        yield _check_reachable(env.queue)
        return
    try:
        queues, _ = open_admins(env.settings)
        attributes = queues.attributes(queues.url)
    except HoldfastError as error:
        yield CheckResult("queue", False, str(error))
        return
    if attributes is None:
        remedy = "check QUEUE_URL and its region, or create the queue with `holdfast setup`"
        yield CheckResult("queue", False, f"{queues.url} does not exist", remedy)
        return
    yield CheckResult("queue", True, f"{queues.url} responds")
    yield _check_retention(attributes)
    yield _check_dead_letters(queues, attributes)


def _check_reachable(queue: JobQueue) -> CheckResult:
    try:
        depth = queue.depth()
    except HoldfastError as error:
        return CheckResult("queue", False, str(error))
    return CheckResult("queue", True, f"responds: {depth.available} messages available")


def _check_retention(attributes: Mapping[str, str]) -> CheckResult:
    """Check that messages are kept for as long as SQS allows."""
    kept_s = int(attributes.get("MessageRetentionPeriod", 0))
    finding = f"keeps messages for {kept_s / DAY_S:g} days"
    if kept_s >= RETENTION_S:
        return CheckResult("retention", True, finding)
    finding = f"{finding}: a job that waits longer loses its message"
    return CheckResult("retention", False, finding, "`holdfast setup` sets it to 14 days")


def _check_dead_letters(queues: QueueAdmin, attributes: Mapping[str, str]) -> CheckResult:
    """Check that the dead-letter queue, if any, exists and does not take messages of healthy jobs."""
    redrive = redrive_of(attributes)
    if redrive is None:
        finding = "no dead-letter queue: messages that name no job are kept in the bucket only"
        return CheckResult("dead letters", True, finding)
    arn, count = redrive
    name = arn.rpartition(":")[2]
    if count < FEWEST_RECEIVES:
        finding = (
            f"after {count} receives a message goes to {name}, and each returned duplicate counts as one:"
            " healthy jobs lose their messages"
        )
        return CheckResult("dead letters", False, finding, f"`holdfast setup` sets it to {MAX_RECEIVES}")
    try:
        if queues.url_of(name) is None:
            finding = f"the queue names {name}, which does not exist"
            return CheckResult("dead letters", False, finding, "create it with `holdfast setup`")
    except HoldfastError as error:
        return CheckResult("dead letters", None, f"cannot look up {name}: {error}")
    return CheckResult("dead letters", True, f"after {count} receives, in {name}")
