"""Request costs: a job's calls to the queue and the bucket, estimated from its record.

Calls are not counted while a job runs. The estimate is made from the record: attempts and how long they owned the job,
heartbeats of the newest attempt, checkpoints and the bytes that the last one sent, and files of the result. Where the
record does not say, the estimate assumes the worst: new log output every 20 s, and no local copy of a checkpoint. Calls
that belong to no job are left out: polls of idle workers, and reads by `status` and other commands.
"""

from collections.abc import Sequence
from math import ceil
from typing import Final

from attrs import frozen

from client.views.time_accounting import AttemptTime
from lifecycle.attempt.log_shipper import INTERVAL_S
from lifecycle.checkpoint.chunks import DEFAULT_CHUNK_SIZES
from lifecycle.errors import UsageError
from lifecycle.job_record import JobRecord

MILLION: Final = 1e6
HEARTBEATS_PER_LEASE: Final = 4.0  # the fewest that the settings allow
COMMIT_PUTS: Final = 2  # a checkpoint's manifest and its record
DEFAULT_HEARTBEAT_S: Final = 30.0
SHORTEST_LEASE_S: Final = 0.1  # a shorter one is none
PACK_BYTES: Final = DEFAULT_CHUNK_SIZES.pack_bytes


@frozen
class RequestPrices:
    """Dollars per million calls: by default the 2026 list prices of SQS (standard queues) and R2 (Class A, Class B)."""

    queue: float = 0.40
    write: float = 4.50
    read: float = 0.36


@frozen
class RequestCounts:
    """Numbers of calls: to the queue, and those to the bucket that write or list (Class A) or read (Class B)."""

    queue: float = 0.0
    write: float = 0.0
    read: float = 0.0

    def __add__(self, other: "RequestCounts") -> "RequestCounts":
        return RequestCounts(self.queue + other.queue, self.write + other.write, self.read + other.read)

    @property
    def total(self) -> float:
        """All calls."""
        return self.queue + self.write + self.read

    def cost(self, prices: RequestPrices) -> float:
        """Return the cost in dollars."""
        return (self.queue * prices.queue + self.write * prices.write + self.read * prices.read) / MILLION


def parse_request_prices(texts: Sequence[str]) -> RequestPrices:
    """Read prices per million calls, such as `queue=0.5`, `write=4.5` and `read=0.36`; list prices fill the gaps.

    Raises:
        UsageError: A price is invalid.
    """
    given: dict[str, float] = {}
    for text in texts:
        kind, _, price = text.partition("=")
        try:
            given[kind] = float(price)
        except ValueError as error:
            raise UsageError(f"--call-price {text!r} is not KIND=PRICE, per million calls") from error
        if kind not in {"queue", "write", "read"} or not 0 <= given[kind] < float("inf"):
            raise UsageError(f"--call-price {text!r}: KIND must be queue, write or read, and PRICE zero or more")
    return RequestPrices(**given)


def attempt_requests(record: JobRecord, one: AttemptTime) -> RequestCounts:
    """Return the calls of one attempt: to take the job, to own it, to save, and to release it."""
    attempt, owned_s = one.attempt, one.time.owned
    heartbeats = owned_s / _heartbeat_s(record)
    saved = record.checkpoint or (record.result.manifest if record.result else None)
    packs = ceil(saved.sent / PACK_BYTES) if saved else 0
    return RequestCounts(
        queue=2 + heartbeats,  # received; extended with each heartbeat; deleted or returned
        # The record when the job is taken and released; the listing of the input; each checkpoint; logs and output.
        write=3 + heartbeats + attempt.commits * (COMMIT_PUTS + packs) + owned_s / INTERVAL_S + 1,
        # The record and the input; the checkpoint's manifest and packs, if the attempt resumed from one.
        read=2 + (1 + ceil(saved.bytes / PACK_BYTES) if attempt.resumed_step is not None and saved else 0),
    )


def job_requests(record: JobRecord) -> RequestCounts:
    """Return the calls outside attempts: the submit, its messages, publishing the outputs, archiving."""
    made = RequestCounts(queue=max(record.dispatch, 1), write=1, read=1)  # the record; looking for a tombstone
    if record.result:
        packs = ceil(record.result.manifest.sent / PACK_BYTES)
        made += RequestCounts(write=COMMIT_PUTS + packs + record.result.files, read=1 + packs)
    if record.archived:
        made += RequestCounts(write=2, read=1)  # the mark, the tombstone
    return made


def _heartbeat_s(record: JobRecord) -> float:
    """Return the seconds between two heartbeats: those of the newest attempt, or the longest that its lease allows."""
    newest = record.attempts[-1] if record.attempts else None
    if newest and record.beat > 1 and newest.prepared_s + newest.useful_s > 0:
        return max((newest.prepared_s + newest.useful_s) / record.beat, 1.0)
    return record.lease_s / HEARTBEATS_PER_LEASE if record.lease_s >= SHORTEST_LEASE_S else DEFAULT_HEARTBEAT_S
