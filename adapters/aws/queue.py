"""JobQueue on AWS SQS, standard or FIFO.

What SQS does, as far as it shows here (sources: its API reference, and the threads in which its users met it):

- It caps a delivery at 12 h from the receive request, and refuses, rather than cuts, an extension beyond.
- It may answer OK to an extension of an expired receipt and do nothing; a FIFO queue refuses a delete with one.
- A batch is answered 200 with some of its messages refused.
- A FIFO queue gives a receive whose answer was lost again, if asked with the same attempt id.
"""

import json
import logging
import math
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from attrs import define
from botocore.exceptions import ClientError

from adapters.aws.clients import CALL_THREADS, CONTROL, RECEIVE, Keys, lazy_client, queue_place
from adapters.aws.error_mapping import SQS, code_of, translating
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import Delivery, Depth, JobQueue, Message, SendFailure

if TYPE_CHECKING:
    from types_boto3_sqs.client import SQSClient

CAP_S: Final = 43_200  # SQS counts 12 h from when it got the receive request
MARGIN_S: Final = 60  # it refuses even 12 h sharp, and our count starts a moment before its own
LONGEST_WAIT_S: Final = 20  # a long poll's limit
BATCH: Final = 10  # messages, by SQS's limit
BATCH_BYTES: Final = 256 << 10  # 1 MiB since August 2025, but emulators still refuse more than this
LONGEST_REASON: Final = 1000  # characters of a dead letter's reason
FIFO_SUFFIX: Final = ".fifo"

VOID_RECEIPT: Final = frozenset(
    {
        "MessageNotInflight",
        "ReceiptHandleIsInvalid",
        "InvalidParameterValue",  # expired, deleted, or beyond the cap: SQS tells them apart in prose only
    }
)
MISSING_QUEUE: Final = frozenset({"NonExistentQueue", "QueueDoesNotExist"})

log = logging.getLogger("holdfast.sqs")


@define
class _Tally:
    """How a send of many batches goes; its counts may be off by a few."""

    sent: int = 0
    lost: int = 0
    reason: str = ""

    @property
    def is_hopeless(self) -> bool:
        """Whether the queue is down, and every batch that is left would wait for its time limit."""
        return self.lost >= CALL_THREADS and self.lost > self.sent


class SqsQueue:
    """One queue.

    Args:
        control: A client for quick calls.
        receiver: A client that waits longer than a long poll lasts.
        url: The queue's.
        clock: Tells how old a delivery is.
    """

    def __init__(self, *, control: "SQSClient", receiver: "SQSClient", url: str, clock: Clock) -> None:
        self._control = control
        self._receiver = receiver
        self._url = url
        self._clock = clock
        self._is_fifo = url.endswith(FIFO_SUFFIX)
        self._unanswered: deque[str] = deque(maxlen=CALL_THREADS)

    def receive(self, *, hidden: timedelta, wait: timedelta) -> Delivery | None:
        """See `JobQueue.receive`. On FIFO, the call after one that failed recovers what that one was given."""
        attempt = self._attempt_id()
        options: Any = {"ReceiveRequestAttemptId": attempt} if self._is_fifo else {}
        received_at = self._clock.monotonic()
        try:
            with translating(f"receive from {self._url}", SQS):
                answer = self._receiver.receive_message(
                    QueueUrl=self._url,
                    MaxNumberOfMessages=1,
                    VisibilityTimeout=min(_whole(hidden), CAP_S),
                    WaitTimeSeconds=min(_whole(wait), LONGEST_WAIT_S),
                    MessageSystemAttributeNames=["ApproximateReceiveCount"],
                    **options,
                )
        except RetryableError:
            self._unanswered.append(attempt)
            raise
        for message in answer.get("Messages", ()):
            return Delivery(
                body=message["Body"],
                message_id=message["MessageId"],
                receipt=message["ReceiptHandle"],
                receives=int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
                received_at=received_at,
            )
        return None

    def extend(self, delivery: Delivery, *, hidden: timedelta) -> bool:
        """See `JobQueue.extend`."""
        seconds = min(_whole(hidden), self._left_s(delivery))
        if seconds <= 0:
            return False
        return self._is_ours("extend", delivery, lambda: self._hide(delivery, seconds))

    def release(self, delivery: Delivery, *, delay: timedelta) -> None:
        """See `JobQueue.release`. A delay beyond the 12 h cap is cut to what is left of it."""
        seconds = max(0, min(_whole(delay), self._left_s(delivery)))
        self._is_ours("release", delivery, lambda: self._hide(delivery, seconds))

    def delete(self, delivery: Delivery) -> None:
        """See `JobQueue.delete`."""
        handle = {"QueueUrl": self._url, "ReceiptHandle": delivery.receipt}
        self._is_ours("delete", delivery, lambda: self._control.delete_message(**handle))

    def send(self, messages: Sequence[Message]) -> list[SendFailure]:
        """See `JobQueue.send`. What could not be sent is answered, not raised, unless the queue itself is wrong."""
        batches, tally = list(_batches(messages)), _Tally()
        if len(batches) <= 1:
            return [failure for batch in batches for failure in self._send_batch(batch, tally)]
        with ThreadPoolExecutor(min(CALL_THREADS, len(batches)), thread_name_prefix="sqs-send") as pool:
            answers = pool.map(lambda batch: self._send_batch(batch, tally), batches)
            return [failure for failures in answers for failure in failures]

    def dead_letter(self, delivery: Delivery, *, reason: str) -> bool:
        """See `JobQueue.dead_letter`. The copy carries the reason as its attribute `reason`."""
        url = self._dead_letter_url()
        if url is None:
            return False
        said = "".join(char if char.isprintable() else " " for char in reason).strip()[:LONGEST_REASON]
        # Named after the message, so that a FIFO queue keeps one copy of it.
        names: Any = self._fifo_names(group=delivery.message_id, dedup=delivery.message_id)
        with translating(f"send {delivery.message_id} to {url}", SQS):
            self._control.send_message(
                QueueUrl=url,
                MessageBody=delivery.body,
                MessageAttributes={"reason": {"DataType": "String", "StringValue": said or "unknown"}},
                **names,
            )
        return True

    def depth(self) -> Depth:
        """See `JobQueue.depth`. SQS takes a minute to count right."""
        with translating(f"count the messages of {self._url}", SQS):
            found = self._control.get_queue_attributes(
                QueueUrl=self._url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )["Attributes"]
        return Depth(
            available=int(found.get("ApproximateNumberOfMessages", 0)),
            in_flight=int(found.get("ApproximateNumberOfMessagesNotVisible", 0)),
            delayed=int(found.get("ApproximateNumberOfMessagesDelayed", 0)),
        )

    def purge(self) -> None:
        """See `JobQueue.purge`. Takes SQS up to 60 s, and it takes one purge in that time."""
        with translating(f"purge {self._url}", SQS):
            try:
                self._control.purge_queue(QueueUrl=self._url)
            except ClientError as error:
                if code_of(error) == "PurgeQueueInProgress":
                    raise RetryableError(f"{self._url} is being purged already; wait 60 s") from error
                raise

    def _attempt_id(self) -> str:
        try:
            return self._unanswered.pop()
        except IndexError:
            return uuid.uuid4().hex

    def _left_s(self, delivery: Delivery) -> int:
        """Whole seconds for which the cap still lets *delivery* be hidden; may be negative."""
        return math.floor(CAP_S - MARGIN_S - (self._clock.monotonic() - delivery.received_at))

    def _hide(self, delivery: Delivery, seconds: int) -> None:
        self._control.change_message_visibility(
            QueueUrl=self._url, ReceiptHandle=delivery.receipt, VisibilityTimeout=seconds
        )

    def _is_ours(self, what: str, delivery: Delivery, call: Callable[[], object]) -> bool:
        """Do something with a receipt; False if SQS said that it is void."""
        with translating(f"{what} message {delivery.message_id}", SQS):
            try:
                call()
            except ClientError as error:
                if code_of(error) not in VOID_RECEIPT:
                    raise
                log.info("%s message %s: the receipt is void: %s", what, delivery.message_id, error)
                return False
        return True

    def _send_batch(self, batch: Sequence[Message], tally: _Tally) -> list[SendFailure]:
        if tally.is_hopeless:
            return [SendFailure(message, f"not tried after: {tally.reason}") for message in batch]
        entries: Any = [
            {"Id": str(number), "MessageBody": message.body, **self._fifo_names(group=message.job, dedup=message.dedup)}
            for number, message in enumerate(batch)
        ]
        try:
            with translating(f"send to {self._url}", SQS):
                answer = self._control.send_message_batch(QueueUrl=self._url, Entries=entries)
        except (RetryableError, PermanentError) as error:
            tally.reason = str(error)
            tally.lost += 1
            return [SendFailure(message, str(error)) for message in batch]
        tally.sent += 1
        accepted = {entry["Id"] for entry in answer.get("Successful", ())}
        refused = {entry["Id"]: f"{entry['Code']}: {entry.get('Message', '')}" for entry in answer.get("Failed", ())}
        return [
            SendFailure(message, refused.get(str(number), "the queue did not say what became of it"))
            for number, message in enumerate(batch)
            if str(number) not in accepted
        ]

    def _fifo_names(self, *, group: str, dedup: str) -> dict[str, str]:
        return {"MessageGroupId": group, "MessageDeduplicationId": dedup} if self._is_fifo else {}

    def _dead_letter_url(self) -> str | None:
        """The URL of the queue's dead-letter queue; None if it has none, or names one that is gone."""
        with translating(f"find the dead-letter queue of {self._url}", SQS):
            found = self._control.get_queue_attributes(QueueUrl=self._url, AttributeNames=["RedrivePolicy", "QueueArn"])
            policy = found["Attributes"].get("RedrivePolicy")  # always there: the queue has an ARN at least
            if not policy:
                return None
            name = str(json.loads(policy)["deadLetterTargetArn"]).rpartition(":")[2]
            try:
                return self._control.get_queue_url(QueueName=name)["QueueUrl"]
            except ClientError as error:
                if code_of(error) not in MISSING_QUEUE:
                    raise
                log.warning("%s names the dead-letter queue %s, which does not exist", self._url, name)
                return None


def connect(*, url: str, credentials: Keys, clock: Clock) -> SqsQueue:
    """Make an `SqsQueue` with clients of its own; sends nothing. Region and endpoint are read from *url*.

    Raises:
        ConfigError: The URL or a key cannot be right.
    """
    endpoint, region = queue_place(url)
    control, receiver = (
        lazy_client(SQS, kind, endpoint=endpoint, region=region, credentials=credentials) for kind in (CONTROL, RECEIVE)
    )
    return SqsQueue(control=control, receiver=receiver, url=url, clock=clock)


def _whole(duration: timedelta) -> int:
    """Seconds, rounded up."""
    return math.ceil(duration.total_seconds())


def _batches(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Split *messages* into batches that SQS takes; one that is too big goes alone."""
    batch: list[Message] = []
    size_bytes = 0
    for message in messages:
        more_bytes = len(message.body.encode())
        if batch and (len(batch) == BATCH or size_bytes + more_bytes > BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(message)
        size_bytes += more_bytes
    if batch:
        yield batch


if TYPE_CHECKING:

    def _conforms(queue: SqsQueue) -> JobQueue:
        return queue
