"""SigningQueue: a wrapper that is itself a `JobQueue` and signs every message sent, so that no sender can forget to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from lifecycle.ports.queue import JobQueue, Message, SendFailure
from lifecycle.record.signing import Signer


class SigningQueue:
    """A queue whose messages are signed.

    Args:
        queue: The queue.
        signer: Signs the messages.
        bucket: Bucket that the signature is valid for.
        prefix: Prefix in that bucket that the signature is valid for.
    """

    def __init__(self, queue: JobQueue, signer: Signer, *, bucket: str, prefix: str) -> None:
        self._queue = queue
        self._signer = signer
        self._bucket = bucket
        self._prefix = prefix
        self.receive = queue.receive
        self.extend = queue.extend
        self.release = queue.release
        self.delete = queue.delete
        self.dead_letter = queue.dead_letter
        self.receive_limit = queue.receive_limit
        self.depth = queue.depth
        self.purge = queue.purge

    def send(self, messages: Sequence[Message]) -> list[SendFailure]:
        """See `JobQueue.send`. A failure contains the message as given, without the signature."""
        signed = [self._signed(message) for message in messages]
        given = dict(zip(signed, messages, strict=True))
        return [evolve(failure, message=given[failure.message]) for failure in self._queue.send(signed)]

    def _signed(self, message: Message) -> Message:
        return evolve(message, body=self._signer.sign(message.body, bucket=self._bucket, prefix=self._prefix))


if TYPE_CHECKING:

    def _conforms(queue: SigningQueue) -> JobQueue:
        return queue
