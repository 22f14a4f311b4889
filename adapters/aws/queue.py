"""JobQueue on AWS SQS, standard or FIFO.

SQS behaves in ways that matter here (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/):

- A message is invisible for at most 12 h from the receive request. A longer extension is refused, not shortened.
- SQS may confirm the extension of an expired receipt and do nothing. A FIFO queue refuses to delete with one.
- A batch may be answered with status 200 although some of its messages were refused.
- A FIFO queue repeats a receive whose response was lost, if it is asked with the same attempt id.
"""

import json
import math
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from attrs import define
from botocore.exceptions import ClientError

from adapters.aws.clients import CALL_THREADS, CONTROL, RECEIVE, AnyCredentials, lazy_client, queue_endpoint
from adapters.aws.error_mapping import SQS, error_code, mapped_errors
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import Delivery, Depth, JobQueue, Message, SendFailure
from lifecycle.structured_log import StructuredLogger

if TYPE_CHECKING:
    from types_boto3_sqs.client import SQSClient

CAP_S: Final = 43_200  # a message is invisible for at most 12 h from the receive request
CAP_MARGIN_S: Final = 60  # SQS refuses even 12 h sharp, and we start to count a moment before it does
MAX_WAIT_S: Final = 20  # limit of a long poll
BATCH: Final = 10  # messages in one request: SQS's limit
BATCH_BYTES: Final = 256 << 10  # 1 MiB since August 2025, but emulators still refuse more than this
MAX_REASON_CHARS: Final = 1000  # of a dead letter's reason
FIFO_SUFFIX: Final = ".fifo"

INVALID_RECEIPT: Final = frozenset(
    {
        "MessageNotInflight",
        "ReceiptHandleIsInvalid",
        "InvalidParameterValue",  # expired, deleted or beyond the cap: only the message's text says which
    }
)
MISSING_QUEUE: Final = frozenset({"NonExistentQueue", "QueueDoesNotExist"})

log = StructuredLogger("holdfast.sqs")


@define
class _BatchCounts:
    """Batches sent and failed during one `send`; threads update it without a lock, so it may be off by a few."""

    sent: int = 0
    failed: int = 0
    reason: str = ""

    @property
    def is_queue_down(self) -> bool:
        """True if so many batches failed that each remaining one would probably wait for its time-out too."""
        return self.failed >= CALL_THREADS and self.failed > self.sent


class SqsQueue:
    """One queue. Thread-safe.

    Args:
        control: Client for short calls.
        receiver: Client whose time-out is longer than a long poll.
        url: The queue's URL.
        clock: Clock that tells the age of a delivery.
    """

    def __init__(self, *, control: "SQSClient", receiver: "SQSClient", url: str, clock: Clock) -> None:
        self._control = control
        self._receiver = receiver
        self._url = url
        self._clock = clock
        self._is_fifo = url.endswith(FIFO_SUFFIX)
        self._unanswered: deque[str] = deque(maxlen=CALL_THREADS)

    def receive(self, *, hidden: timedelta, wait: timedelta) -> Delivery | None:
        """See `JobQueue.receive`. On FIFO, the call after a failed one recovers the message that was lost."""
        attempt_id = self._attempt_id()
        received_at = self._clock.monotonic()
        try:
            response = self._receive(attempt_id, hidden, wait)
        except RetryableError:
            self._unanswered.append(attempt_id)
            raise
        for message in response.get("Messages", ()):
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
        seconds = min(_whole_seconds(hidden), self._remaining_s(delivery))
        if seconds <= 0:
            return False
        return self._with_receipt("extend", delivery, lambda: self._set_visibility(delivery, seconds))

    def release(self, delivery: Delivery, *, delay: timedelta) -> None:
        """See `JobQueue.release`. A delay beyond the 12 h cap is cut to the time that remains."""
        seconds = max(0, min(_whole_seconds(delay), self._remaining_s(delivery)))
        self._with_receipt("release", delivery, lambda: self._set_visibility(delivery, seconds))

    def delete(self, delivery: Delivery) -> None:
        """See `JobQueue.delete`."""
        handle = {"QueueUrl": self._url, "ReceiptHandle": delivery.receipt}
        self._with_receipt("delete", delivery, lambda: self._control.delete_message(**handle))

    def send(self, messages: Sequence[Message]) -> list[SendFailure]:
        """See `JobQueue.send`. A batch that cannot be sent is returned as failures; only a wrong queue raises."""
        batches, counts = list(_batches(messages)), _BatchCounts()
        if len(batches) <= 1:
            return [failure for batch in batches for failure in self._send_batch(batch, counts)]
        with ThreadPoolExecutor(min(CALL_THREADS, len(batches)), thread_name_prefix="sqs-send") as pool:
            results = pool.map(lambda batch: self._send_batch(batch, counts), batches)
            return [failure for failures in results for failure in failures]

    def dead_letter(self, delivery: Delivery, *, reason: str) -> bool:
        """See `JobQueue.dead_letter`. The copy carries the reason in its attribute `reason`."""
        url = self._dead_letter_url()
        if url is None:
            return False
        text = "".join(char if char.isprintable() else " " for char in reason).strip()[:MAX_REASON_CHARS]
        # Named after the message, so that a FIFO queue keeps one copy of it.
        names: Any = self._fifo_names(group=delivery.message_id, dedup=delivery.message_id)
        with mapped_errors(f"send {delivery.message_id} to {url}", SQS):
            self._control.send_message(
                QueueUrl=url,
                MessageBody=delivery.body,
                MessageAttributes={"reason": {"DataType": "String", "StringValue": text or "unknown"}},
                **names,
            )
        return True

    def receive_limit(self) -> int | None:
        """See `JobQueue.receive_limit`."""
        with mapped_errors(f"read the redrive policy of {self._url}", SQS):
            found = self._control.get_queue_attributes(QueueUrl=self._url, AttributeNames=["RedrivePolicy", "QueueArn"])
        policy = found["Attributes"].get("RedrivePolicy")
        return int(json.loads(policy)["maxReceiveCount"]) if policy else None

    def depth(self) -> Depth:
        """See `JobQueue.depth`. SQS needs up to a minute until the counts are right."""
        with mapped_errors(f"count the messages of {self._url}", SQS):
            attributes = self._control.get_queue_attributes(
                QueueUrl=self._url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )["Attributes"]
        return Depth(
            available=int(attributes.get("ApproximateNumberOfMessages", 0)),
            in_flight=int(attributes.get("ApproximateNumberOfMessagesNotVisible", 0)),
            delayed=int(attributes.get("ApproximateNumberOfMessagesDelayed", 0)),
        )

    def purge(self) -> None:
        """See `JobQueue.purge`. A purge takes up to 60 s, during which SQS refuses another."""
        with mapped_errors(f"purge {self._url}", SQS):
            try:
                self._control.purge_queue(QueueUrl=self._url)
            except ClientError as error:
                if error_code(error) == "PurgeQueueInProgress":
                    raise RetryableError(f"{self._url} is already being purged; wait 60 s") from error
                raise

    def _receive(self, attempt_id: str, hidden: timedelta, wait: timedelta) -> Any:
        options: Any = {"ReceiveRequestAttemptId": attempt_id} if self._is_fifo else {}
        with mapped_errors(f"receive from {self._url}", SQS):
            return self._receiver.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=1,
                VisibilityTimeout=min(_whole_seconds(hidden), CAP_S),
                WaitTimeSeconds=min(_whole_seconds(wait), MAX_WAIT_S),
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
                **options,
            )

    def _attempt_id(self) -> str:
        """Return the id of a receive that got no response, or a new one."""
        try:
            return self._unanswered.pop()
        except IndexError:
            return uuid.uuid4().hex

    def _remaining_s(self, delivery: Delivery) -> int:
        """Return the whole seconds for which *delivery* may still be invisible; negative once the cap is over."""
        return math.floor(CAP_S - CAP_MARGIN_S - (self._clock.monotonic() - delivery.received_at))

    def _set_visibility(self, delivery: Delivery, seconds: int) -> None:
        self._control.change_message_visibility(
            QueueUrl=self._url, ReceiptHandle=delivery.receipt, VisibilityTimeout=seconds
        )

    def _with_receipt(self, operation: str, delivery: Delivery, call: Callable[[], object]) -> bool:
        """Make *call*; return False if SQS says that the delivery's receipt is no longer valid."""
        with mapped_errors(f"{operation} message {delivery.message_id}", SQS):
            try:
                call()
            except ClientError as error:
                if error_code(error) not in INVALID_RECEIPT:
                    raise
                log.info("receipt.refused", operation=operation, message=delivery.message_id, error=str(error))
                return False
        return True

    def _send_batch(self, batch: Sequence[Message], counts: _BatchCounts) -> list[SendFailure]:
        if counts.is_queue_down:
            return [SendFailure(message, f"not tried after: {counts.reason}") for message in batch]
        entries: Any = [
            {"Id": str(number), "MessageBody": message.body, **self._fifo_names(group=message.job, dedup=message.dedup)}
            for number, message in enumerate(batch)
        ]
        try:
            with mapped_errors(f"send to {self._url}", SQS):
                response = self._control.send_message_batch(QueueUrl=self._url, Entries=entries)
        except (RetryableError, PermanentError) as error:
            counts.reason = str(error)
            counts.failed += 1
            return [SendFailure(message, str(error)) for message in batch]
        counts.sent += 1
        return _failures(batch, response)

    def _fifo_names(self, *, group: str, dedup: str) -> dict[str, str]:
        return {"MessageGroupId": group, "MessageDeduplicationId": dedup} if self._is_fifo else {}

    def _dead_letter_url(self) -> str | None:
        """Return the URL of the dead-letter queue; None if none is configured, or the configured one is missing."""
        with mapped_errors(f"find the dead-letter queue of {self._url}", SQS):
            found = self._control.get_queue_attributes(QueueUrl=self._url, AttributeNames=["RedrivePolicy", "QueueArn"])
            policy = found["Attributes"].get("RedrivePolicy")  # Attributes is never missing: every queue has an ARN
            if not policy:
                return None
            name = str(json.loads(policy)["deadLetterTargetArn"]).rpartition(":")[2]
            try:
                return self._control.get_queue_url(QueueName=name)["QueueUrl"]
            except ClientError as error:
                if error_code(error) not in MISSING_QUEUE:
                    raise
                log.warning("dead_letter_queue.not_found", queue=self._url, dead_letter_queue=name)
                return None


def connect(*, url: str, credentials: AnyCredentials, clock: Clock, region: str = "") -> SqsQueue:
    """Create an `SqsQueue` with clients of its own; nothing is sent.

    Args:
        url: The queue's URL.
        credentials: Credentials for the queue.
        clock: Clock of this process.
        region: Region for a URL that does not name its own; see `clients.queue_endpoint`.

    Raises:
        ConfigError: The URL or a key is invalid.
    """
    endpoint, region = queue_endpoint(url, region)
    control, receiver = (
        lazy_client(SQS, kind, endpoint=endpoint, region=region, credentials=credentials) for kind in (CONTROL, RECEIVE)
    )
    return SqsQueue(control=control, receiver=receiver, url=url, clock=clock)


def _whole_seconds(duration: timedelta) -> int:
    """Return *duration* in seconds, rounded up."""
    return math.ceil(duration.total_seconds())


def _batches(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Split *messages* into batches within SQS's limits; a message that is too large gets a batch of its own."""
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


def _failures(batch: Sequence[Message], response: Any) -> list[SendFailure]:
    """Return the messages of *batch* that the response does not list as accepted."""
    accepted = {entry["Id"] for entry in response.get("Successful", ())}
    refused = {entry["Id"]: f"{entry['Code']}: {entry.get('Message', '')}" for entry in response.get("Failed", ())}
    return [
        SendFailure(message, refused.get(str(number), "the queue neither accepted nor refused the message"))
        for number, message in enumerate(batch)
        if str(number) not in accepted
    ]


if TYPE_CHECKING:

    def _conforms(queue: SqsQueue) -> JobQueue:
        return queue
