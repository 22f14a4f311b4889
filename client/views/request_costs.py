"""What the control plane of a job costs: calls to the queue and to the bucket, estimated from its record.

Nobody counts calls while a job runs, so this is an estimate, made of what the record says: attempts and how long they
held the job, beats of the newest, checkpoints and how much the last of them sent, files of the result. It takes the
worst where the record is silent: something for the log every 20 s, nothing taken from a node's own disk. It leaves
out what is no job's: an idle worker's polls, and what `status` and others read.
"""

from collections.abc import Sequence
from math import ceil
from typing import Final

from attrs import frozen

from client.views.time_accounting import TimeEntry
from lifecycle.attempt.log_shipper import INTERVAL_S
from lifecycle.checkpoint.chunks import DEFAULT_CHUNK_SIZES
from lifecycle.errors import ConfigError
from lifecycle.job_record import JobRecord

MILLION: Final = 1e6
BEATS_A_LEASE: Final = 4.0  # the fewest that a worker's settings allow
COMMIT_PUTS: Final = 2  # a checkpoint's manifest and its record
USUAL_BEAT_S: Final = 30.0
PACK_BYTES: Final = DEFAULT_CHUNK_SIZES.pack_bytes


@frozen
class Prices:
    """Of a million calls, in dollars: list prices of SQS (standard queues) and R2 (Class A, Class B), 2026."""

    queue: float = 0.40
    write: float = 4.50
    read: float = 0.36


@frozen
class Calls:
    """How many: to the queue; to the bucket those that write or list (R2: Class A), and those that read (Class B)."""

    queue: float = 0.0
    write: float = 0.0
    read: float = 0.0

    def __add__(self, other: "Calls") -> "Calls":
        return Calls(self.queue + other.queue, self.write + other.write, self.read + other.read)

    @property
    def total(self) -> float:
        """All of them."""
        return self.queue + self.write + self.read

    def cost(self, prices: Prices) -> float:
        """In dollars."""
        return (self.queue * prices.queue + self.write * prices.write + self.read * prices.read) / MILLION


def prices(texts: Sequence[str]) -> Prices:
    """Prices of a million calls: `queue=0.5`, `write=4.5`, `read=0.36`; the list prices where nothing is said.

    Raises:
        ConfigError: One is none.
    """
    given: dict[str, float] = {}
    for text in texts:
        kind, _, price = text.partition("=")
        try:
            given[kind] = float(price)
        except ValueError as error:
            raise ConfigError(f"--call-price {text!r} is not KIND=PRICE, of a million calls") from error
        if kind not in {"queue", "write", "read"} or not 0 <= given[kind] < float("inf"):
            raise ConfigError(f"--call-price {text!r}: KIND is queue, write or read, and PRICE a price")
    return Prices(**given)


def of_attempt(record: JobRecord, entry: TimeEntry) -> Calls:
    """What one attempt needed: to take the job, to hold it, to save, and to let go of it."""
    attempt, held_s = entry.attempt, entry.spent.stored
    beats = held_s / _beat_s(record)
    saved = record.checkpoint or (record.result.manifest if record.result else None)
    packs = ceil(saved.sent / PACK_BYTES) if saved else 0
    return Calls(
        queue=2 + beats,  # received; extended with each beat; deleted or handed back
        # Taken and let go of in the record; the input listed; each checkpoint; the log, and what the workload writes.
        write=3 + beats + attempt.commits * (COMMIT_PUTS + packs) + held_s / INTERVAL_S + 1,
        # The record, the input; a checkpoint's manifest and packs, where it went on from one.
        read=2 + (1 + ceil(saved.bytes / PACK_BYTES) if attempt.resumed_step is not None and saved else 0),
    )


def of_job(record: JobRecord) -> Calls:
    """What it needed besides: submitted, its messages sent, its outputs published, archived."""
    made = Calls(queue=max(record.dispatch, 1), write=1, read=1)  # the record; a look for a tombstone
    if record.result:
        packs = ceil(record.result.manifest.sent / PACK_BYTES)
        made += Calls(write=COMMIT_PUTS + packs + record.result.files, read=1 + packs)
    if record.archived:
        made += Calls(write=2, read=1)  # the mark, the tombstone
    return made


def _beat_s(record: JobRecord) -> float:
    """Seconds between two beats: as the newest attempt shows, or as few as its lease allows."""
    newest = record.attempts[-1] if record.attempts else None
    if newest and record.beat > 1 and newest.prepared_s + newest.useful_s > 0:
        return max((newest.prepared_s + newest.useful_s) / record.beat, 1.0)
    return record.lease_s / BEATS_A_LEASE if record.lease_s else USUAL_BEAT_S
