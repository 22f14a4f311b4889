"""The archive: where the records of jobs that are over go, so that the live ones stay few.

A *segment* is an immutable object that holds many records, a JSON line each, in zstd frames. A job's *tombstone* says
where its record stands there; it is written once, before the record is removed, and stays. Whoever is about to begin a
job that was never begun looks for a tombstone first, so an archived job is never begun again under its id: not by a
message that comes late, and not by a submit that did not know. That is what makes removing a record safe where the
store has no conditional delete: nothing that somebody needs ever stands at that key again.
"""

import json
from collections.abc import Sequence
from functools import cache
from typing import Final

import cattrs
from attrs import asdict, evolve, frozen
from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError, frame_content_size

from lifecycle.errors import InvalidRecordError, PermanentError
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import JobKeys, KeyLayout
from lifecycle.ports.store import ABSENT, ObjectStore, Range
from lifecycle.record.codec import MAX_BYTES, decode_record, encode_record
from lifecycle.serialization import strict_converter

FRAME_BYTES: Final = 64 << 10  # of records, before compression: what is read to get at one of them
LARGEST_FRAME: Final = FRAME_BYTES + MAX_BYTES + 1
LEVEL: Final = 10
SCHEMA: Final = 1


@frozen
class ArchivePosition:
    """Where a record stands in the archive.

    Attributes:
        segment: The segment's name.
        offset: Of the frame that holds it, in bytes.
        length: The frame's, in bytes.
        line: Its number in the frame, from 0.
    """

    segment: str
    offset: int
    length: int
    line: int


@frozen
class Tombstone:
    """Says that a job is archived.

    Attributes:
        job: Its id.
        spot: Where its record stands.
        at: When that was last written before, ISO 8601 UTC, by the clock of whoever archived it.
    """

    job: str
    spot: ArchivePosition
    at: str


def pack(name: str, records: Sequence[JobRecord]) -> tuple[bytes, list[ArchivePosition]]:
    """A segment's body, and where each of *records* stands in it."""
    body, spots = bytearray(), list[ArchivePosition]()
    compressor = ZstdCompressor(level=LEVEL)
    lines: list[bytes] = []

    def close() -> None:
        frame = compressor.compress(b"".join(lines))
        spots.extend(ArchivePosition(name, len(body), len(frame), line) for line in range(len(lines)))
        body.extend(frame)
        lines.clear()

    for record in records:
        lines.append(encode_record(record) + b"\n")
        if sum(map(len, lines)) >= FRAME_BYTES:
            close()
    if lines:
        close()
    return bytes(body), spots


def read_frame(store: ObjectStore, layout: KeyLayout, spot: ArchivePosition) -> list[JobRecord]:
    """The records of the frame that *spot* names; each says which segment it is from.

    Raises:
        RetryableError: It could not be read.
        PermanentError: It is not there, or damaged.
    """
    key = layout.segment(spot.segment)
    frame = store.get_range(Range(key, spot.offset, spot.length))
    if frame is None or len(frame) != spot.length:
        raise PermanentError(f"the archive's segment {key} is missing or too short")
    try:
        lines = unpack(frame, LARGEST_FRAME).splitlines()
    except ZstdError as error:
        raise PermanentError(f"the archive's segment {key} is damaged at {spot.offset}: {error}") from error
    return [evolve(decode_record(line), archived=spot.segment) for line in lines]


def unpack(frame: bytes, most: int) -> bytes:
    """What a zstd frame holds, *most* bytes of it at most.

    Raises:
        ZstdError: It is none, or says that it holds more.
    """
    if not 0 <= frame_content_size(frame) <= most:
        raise ZstdError(f"the frame does not say that it holds {most} bytes at most")
    return ZstdDecompressor().decompress(frame)


def is_archived(store: ObjectStore, keys: JobKeys) -> bool:
    """Whether the job has a tombstone.

    Raises:
        RetryableError: It could not be found out.
    """
    return store.get(keys.tombstone) is not None


def read_tombstone(store: ObjectStore, keys: JobKeys) -> Tombstone | None:
    """The job's tombstone, if it has one.

    Raises:
        RetryableError: It could not be read.
        InvalidRecordError: It cannot be understood.
    """
    stored = store.get(keys.tombstone)
    if stored is None:
        return None
    try:
        raw = json.loads(stored.body)
        if raw.pop("schema") != SCHEMA:
            raise InvalidRecordError(f"{keys.tombstone} is of a newer schema: update this Holdfast and try again")
        return _converter().structure(raw, Tombstone)
    except (ValueError, KeyError, TypeError, AttributeError, cattrs.BaseValidationError) as error:
        raise InvalidRecordError(f"{keys.tombstone} is no tombstone: {error}") from error


@cache
def _converter() -> cattrs.Converter:
    return strict_converter()


def put_tombstone(store: ObjectStore, keys: JobKeys, tombstone: Tombstone) -> None:
    """Write it.

    Raises:
        VersionConflictError: The job has one already, which is as good.
        RetryableError: It may be there or not.
    """
    body = json.dumps({"schema": SCHEMA, **asdict(tombstone)}, separators=(",", ":")).encode()
    store.put(keys.tombstone, body, expected=ABSENT)
