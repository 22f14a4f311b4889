"""Creating or correcting the queue, its dead-letter queue and the bucket, and the permissions that each role needs."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from attrs import frozen

from adapters.aws.admin import Attributes, BucketAdmin, QueueAdmin, redrive_of
from adapters.aws.clients import queue_endpoint
from adapters.aws.queue import FIFO_SUFFIX
from lifecycle.errors import ConfigError

RETENTION_S: Final = int(timedelta(days=14).total_seconds())  # the longest that SQS allows
LONG_POLL_S: Final = 20
MAX_RECEIVES: Final = 1000  # each duplicate that is returned to the queue counts as a receive
DEAD_LETTER_SUFFIX: Final = "-dead"
WORKER: Final = (
    "sqs:ReceiveMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:SendMessage",
    "sqs:GetQueueAttributes",
)
SUBMITTER: Final = ("sqs:SendMessage", "sqs:GetQueueAttributes")
OPERATOR: Final = (
    *WORKER,
    "sqs:GetQueueUrl",
    "sqs:PurgeQueue",
    "sqs:CreateQueue",
    "sqs:SetQueueAttributes",
)


@frozen
class ProvisioningStep:
    """A queue or bucket to create, or attributes of it to change.

    Attributes:
        subject: The queue or bucket: `queue NAME` or `bucket NAME`.
        attributes: The attributes to set.
        before: All its attributes before; None if it does not exist.
    """

    subject: str
    attributes: Attributes
    before: Attributes | None

    def lines(self) -> Iterator[str]:
        """Yield a line for the queue or bucket, and one for each attribute with its value before and after."""
        yield f"{self.subject}: {'to be created' if self.before is None else 'to be changed'}"
        for name, value in self.attributes.items():
            before = "" if self.before is None else f"{self.before.get(name, 'not set')} -> "
            yield f"    {name}: {before}{value}"


def plan_steps(queues: QueueAdmin, bucket: BucketAdmin, lease: timedelta) -> list[ProvisioningStep]:
    """Return the steps that are needed, in order; anything that is right already is left unchanged.

    Raises:
        ConfigError: The credentials are wrong or do not allow it.
        RetryableError: The queue or the bucket cannot be reached.
    """
    return [*_queue_steps(queues, lease), *_bucket_steps(bucket)]


def _queue_steps(queues: QueueAdmin, lease: timedelta) -> Iterator[ProvisioningStep]:
    """Yield the steps for the dead-letter queue, then those for the queue."""
    found = queues.attributes(queues.url)
    redrive = redrive_of(found or {})
    if redrive is None:
        yield from _dead_letter_steps(queues)
    wanted = {
        "VisibilityTimeout": str(round(lease.total_seconds())),
        "MessageRetentionPeriod": str(RETENTION_S),
        "ReceiveMessageWaitTimeSeconds": str(LONG_POLL_S),
    }
    if redrive is None:
        wanted["RedrivePolicy"] = _redrive(
            arn_of(queues.url, dead_letter_name(queues.name), queues.region), MAX_RECEIVES
        )
    elif redrive[1] < MAX_RECEIVES:
        wanted["RedrivePolicy"] = _redrive(redrive[0], MAX_RECEIVES)
    yield from _differences(queues.name, found, wanted)


def _dead_letter_steps(queues: QueueAdmin) -> Iterator[ProvisioningStep]:
    name = dead_letter_name(queues.name)
    url = queues.url_of(name)
    found = queues.attributes(url) if url else None
    yield from _differences(name, found, {"MessageRetentionPeriod": str(RETENTION_S)})


def _differences(name: str, found: Attributes | None, wanted: Attributes) -> Iterator[ProvisioningStep]:
    subject = f"queue {name}"
    if found is None:
        fifo = {"FifoQueue": "true"} if name.endswith(FIFO_SUFFIX) else {}
        yield ProvisioningStep(subject, {**wanted, **fifo}, None)
        return
    wrong = {attribute: value for attribute, value in wanted.items() if found.get(attribute) != value}
    if wrong:
        yield ProvisioningStep(subject, wrong, found)


def _bucket_steps(bucket: BucketAdmin) -> Iterator[ProvisioningStep]:
    if not bucket.exists():
        yield ProvisioningStep(f"bucket {bucket.bucket}", {}, None)


def carry_out(step: ProvisioningStep, queues: QueueAdmin, bucket: BucketAdmin) -> None:
    """Carry out a step. Safe to repeat.

    Raises:
        ConfigError: The credentials do not allow it, or a queue was deleted since the steps were planned.
        RetryableError: The queue or the bucket cannot be reached.
    """
    kind, _, name = step.subject.partition(" ")
    if kind == "bucket":
        bucket.create()
    elif step.before is None:
        queues.create(name, step.attributes)
    else:
        url = queues.url if name == queues.name else queues.url_of(name)
        if url is None:
            raise ConfigError(f"the queue {name} was deleted meanwhile: run the command again")
        queues.change(url, step.attributes)


def dead_letter_name(name: str) -> str:
    """Return the name of the dead-letter queue of the queue *name*; of the same kind, as SQS requires."""
    stem = name.removesuffix(FIFO_SUFFIX)
    return f"{stem}{DEAD_LETTER_SUFFIX}{FIFO_SUFFIX if stem != name else ''}"


def arn_of(url: str, name: str, region: str) -> str:
    """Return the ARN of the queue *name* in *region*, in the account of the queue at *url*."""
    account = url.rstrip("/").split("/")[-2]
    return f"arn:aws:sqs:{region}:{account}:{name}"


def _redrive(arn: str, count: int) -> str:
    return json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": count})


def policies(url: str, bucket: str, region: str = "") -> dict[str, Any]:
    """Return, for each role, an IAM policy for the queue and a description of the R2 token to create.

    Args:
        url: The queue's URL.
        bucket: The bucket's name.
        region: Region for a URL that does not name its own.
    """
    _, region = queue_endpoint(url, region)
    name = url.rstrip("/").rpartition("/")[2]
    queue, dead = arn_of(url, name, region), arn_of(url, dead_letter_name(name), region)
    to_dead = _statement(("sqs:GetQueueUrl", "sqs:SendMessage"), dead)
    r2 = f"an R2 API token with Object Read & Write on the bucket {bucket} only"
    return {
        "submitter": {"iam": _policy(_statement(SUBMITTER, queue)), "r2": r2},
        "worker": {"iam": _policy(_statement(WORKER, queue), to_dead), "r2": r2},
        "operator": {
            "iam": _policy(_statement(OPERATOR, queue), _statement(OPERATOR, dead)),
            "r2": f"{r2}; to create it, Admin Read & Write once",
        },
    }


def _policy(*statements: Mapping[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _statement(actions: tuple[str, ...], arn: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": arn}
