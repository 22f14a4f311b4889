"""`holdfast setup`: the queue, its dead-letter queue and the bucket, made or made right; shown before it is done."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from attrs import frozen

from adapters.aws.admin import Attributes, BucketAdmin, QueueAdmin, bucket_admin, queue_admin, redrive_of
from adapters.aws.clients import queue_endpoint
from adapters.aws.queue import FIFO_SUFFIX
from adapters.local.clock import SystemClock
from client.commands.purge import confirmed
from client.config.credential_sources import queue_keys, store_keys
from client.config.settings import Settings
from lifecycle.errors import ConfigError

RETENTION_S: Final = int(timedelta(days=14).total_seconds())  # SQS's longest
LONG_POLL_S: Final = 20
MAX_RECEIVES: Final = 1000  # every hand-back of a duplicate counts as a receive
DEAD: Final = "-dead"
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
class Step:
    """One thing to do: make a queue or a bucket (`attributes` of it), or change what one attribute *was*."""

    what: str
    attributes: Attributes
    was: Attributes | None

    def lines(self) -> Iterator[str]:
        """For people: a line for the thing, and one for each attribute: is, shall be."""
        yield f"{self.what}: {'is not there: to be made' if self.was is None else 'to be changed'}"
        for name, value in self.attributes.items():
            before = "" if self.was is None else f"{self.was.get(name, 'not set')} -> "
            yield f"    {name}: {before}{value}"


def run(settings: Settings, *, yes: bool, dry_run: bool) -> int:
    """Show what is to be done, and, if somebody says yes, do it. What is right already is left alone.

    Returns:
        0 if all is as it should be now; 1 if something was shown and not done.

    Raises:
        ConfigError: The keys are wrong or may not do it; or nobody is here to ask.
    """
    if not settings.is_cloud:
        print("QUEUE_URL is not set: the embedded default needs no setup")
        return 0
    queues, bucket = admins(settings)
    steps = [*queue_steps(queues, settings), *bucket_steps(bucket)]
    for step in steps:
        print("\n".join(step.lines()))
    if not steps:
        print(f"{queues.url} and the bucket {bucket.bucket} are as they should be")
        return 0
    if dry_run:
        return 1
    if not yes and not confirmed("do this?"):
        return 1
    for step in steps:
        carry_out(step, queues, bucket)
        print(f"{step.what}: done")
    return 0


def admins(settings: Settings) -> tuple[QueueAdmin, BucketAdmin]:
    """Of the queue and the bucket that the settings name; sends nothing.

    Raises:
        ConfigError: A setting cannot be right.
    """
    clock = SystemClock()
    sqs, s3 = queue_keys(settings, clock), store_keys(settings, clock)
    layout = {"endpoint": settings["CLOUDFLARE_URL"], "region": settings["CLOUDFLARE_REGION"]}
    queues = queue_admin(url=settings["QUEUE_URL"], credentials=sqs)
    return queues, bucket_admin(**layout, bucket=settings["BUCKET"], credentials=s3)


def queue_steps(queues: QueueAdmin, settings: Settings) -> Iterator[Step]:
    """What is to be done about the dead-letter queue, then about the queue."""
    is_attributes = queues.attributes(queues.url)
    redrive = redrive_of(is_attributes or {})
    if redrive is None:
        yield from _dead_letters(queues)
    shall = {
        "VisibilityTimeout": str(round(settings["LEASE"].total_seconds())),
        "MessageRetentionPeriod": str(RETENTION_S),
        "ReceiveMessageWaitTimeSeconds": str(LONG_POLL_S),
    }
    if redrive is None:
        shall["RedrivePolicy"] = _redrive(arn_of(queues.url, dead_name(queues.name)), MAX_RECEIVES)
    elif redrive[1] < MAX_RECEIVES:
        shall["RedrivePolicy"] = _redrive(redrive[0], MAX_RECEIVES)
    yield from _difference(queues.name, is_attributes, shall)


def _dead_letters(queues: QueueAdmin) -> Iterator[Step]:
    name = dead_name(queues.name)
    url = queues.url_of(name)
    found = queues.attributes(url) if url else None
    yield from _difference(name, found, {"MessageRetentionPeriod": str(RETENTION_S)})


def _difference(name: str, found: Attributes | None, shall: Attributes) -> Iterator[Step]:
    what = f"queue {name}"
    if found is None:
        fifo = {"FifoQueue": "true"} if name.endswith(FIFO_SUFFIX) else {}
        yield Step(what, {**shall, **fifo}, None)
        return
    wrong = {attribute: value for attribute, value in shall.items() if found.get(attribute) != value}
    if wrong:
        yield Step(what, wrong, found)


def bucket_steps(bucket: BucketAdmin) -> Iterator[Step]:
    """What is to be done about the bucket."""
    if not bucket.exists():
        yield Step(f"bucket {bucket.bucket}", {}, None)


def carry_out(step: Step, queues: QueueAdmin, bucket: BucketAdmin) -> None:
    """Do it. Safe to repeat."""
    kind, _, name = step.what.partition(" ")
    if kind == "bucket":
        bucket.create()
    elif step.was is None:
        queues.create(name, step.attributes)
    else:
        url = queues.url if name == queues.name else queues.url_of(name)
        if url is None:
            raise ConfigError(f"the queue {name} has gone meanwhile: say it again")
        queues.change(url, step.attributes)


def dead_name(name: str) -> str:
    """The dead-letter queue of the queue *name*; of the same kind, as SQS demands."""
    stem = name.removesuffix(FIFO_SUFFIX)
    return f"{stem}{DEAD}{FIFO_SUFFIX if stem != name else ''}"


def arn_of(url: str, name: str) -> str:
    """The ARN of the queue *name* in the account and region of the queue at *url*."""
    _, region = queue_endpoint(url)
    account = url.rstrip("/").split("/")[-2]
    return f"arn:aws:sqs:{region}:{account}:{name}"


def _redrive(arn: str, count: int) -> str:
    return json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": count})


def print_policies(settings: Settings) -> int:
    """Print what keys each role needs: an IAM policy for the queue, and a token's scope for the bucket.

    Returns:
        0.

    Raises:
        ConfigError: QUEUE_URL is not set.
    """
    if not settings.is_cloud:
        raise ConfigError("QUEUE_URL is not set: policies are for a queue")
    print(json.dumps(policies(settings["QUEUE_URL"], settings["BUCKET"]), indent=2))
    return 0


def policies(url: str, bucket: str) -> dict[str, Any]:
    """By role: an IAM policy, and the R2 token to make."""
    name = url.rstrip("/").rpartition("/")[2]
    queue, dead = arn_of(url, name), arn_of(url, dead_name(name))
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
