"""Format of the archive, where the records of finished jobs go, so that the live ones stay few.

A *segment* is an immutable object that holds many records, one JSON line each, in zstd frames. A job's *tombstone* says
where in the archive its record is. It is written once, before the record is removed, and never removed itself.

Before a worker starts a job that has had no attempt, it looks for a tombstone. So an archived job is never started
again under its id, neither by a message that arrives late nor by a submit that did not know. This is what makes
removing a record safe in a store without conditional deletes: nothing that is needed ever exists at that key again.
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

FRAME_BYTES: Final = 64 << 10  # uncompressed; a whole frame is read to get at one record
MAX_FRAME_BYTES: Final = FRAME_BYTES + MAX_BYTES + 1  # a frame is closed by the record that fills it
LEVEL: Final = 10
SCHEMA: Final = 1


@frozen
class ArchivePosition:
    """Position of a record in the archive.

    Attributes:
        segment: Name of the segment.
        offset: Where in the segment its frame begins, in bytes.
        length: Length of the frame, in bytes.
        line: Number of its line in the frame, from 0.
    """

    segment: str
    offset: int
    length: int
    line: int


@frozen
class Tombstone:
    """Evidence that a job is archived. The field names are those of its JSON.

    Attributes:
        job: The job's id.
        spot: Position of its record.
        at: When the record was last written before it was archived, ISO 8601 UTC, by the clock of the archiving node.
    """

    job: str
    spot: ArchivePosition
    at: str


def pack_segment(name: str, records: Sequence[JobRecord]) -> tuple[bytes, list[ArchivePosition]]:
    """Return the body of segment *name*, and the position of each of *records* in it."""
    body, positions = bytearray(), list[ArchivePosition]()
    compressor = ZstdCompressor(level=LEVEL)
    lines: list[bytes] = []

    def close_frame() -> None:
        frame = compressor.compress(b"".join(lines))
        positions.extend(ArchivePosition(name, len(body), len(frame), line) for line in range(len(lines)))
        body.extend(frame)
        lines.clear()

    for record in records:
        lines.append(encode_record(record) + b"\n")
        if sum(map(len, lines)) >= FRAME_BYTES:
            close_frame()
    if lines:
        close_frame()
    return bytes(body), positions


def read_frame(store: ObjectStore, layout: KeyLayout, position: ArchivePosition) -> list[JobRecord]:
    """Return all records of the frame that holds *position*, each with its segment in `archived`.

    Raises:
        RetryableError: The frame could not be read.
        PermanentError: It is missing or damaged.
        InvalidRecordError: One of its records cannot be decoded.
    """
    key = layout.segment(position.segment)
    frame = store.get_range(Range(key, position.offset, position.length))
    if frame is None or len(frame) != position.length:
        raise PermanentError(f"the archive's segment {key} is missing or too short")
    try:
        lines = decompress_frame(frame, MAX_FRAME_BYTES).splitlines()
    except ZstdError as error:
        raise PermanentError(f"the archive's segment {key} is damaged at {position.offset}: {error}") from error
    return [evolve(decode_record(line), archived=position.segment) for line in lines]


def decompress_frame(frame: bytes, max_bytes: int) -> bytes:
    """Return the content of a zstd frame.

    The size that the frame declares is checked first, so that a damaged one cannot fill the memory.

    Raises:
        ZstdError: It is not a frame, or does not declare a size of at most *max_bytes*.
    """
    if not 0 <= frame_content_size(frame) <= max_bytes:
        raise ZstdError(f"the frame does not declare a size of at most {max_bytes} bytes")
    return ZstdDecompressor().decompress(frame)


def is_archived(store: ObjectStore, keys: JobKeys) -> bool:
    """Return whether the job has a tombstone.

    Raises:
        RetryableError: The store did not answer, so nothing is known.
    """
    return store.get(keys.tombstone) is not None


def read_tombstone(store: ObjectStore, keys: JobKeys) -> Tombstone | None:
    """Return the job's tombstone; None if it has none.

    Raises:
        RetryableError: It could not be read.
        InvalidRecordError: It cannot be decoded.
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
        raise InvalidRecordError(f"{keys.tombstone} is not a tombstone: {error}") from error


@cache
def _converter() -> cattrs.Converter:
    return strict_converter()


def put_tombstone(store: ObjectStore, keys: JobKeys, tombstone: Tombstone) -> None:
    """Write the tombstone of a job.

    Raises:
        VersionConflictError: The job already has one, which serves as well.
        RetryableError: It may have been written or not.
    """
    body = json.dumps({"schema": SCHEMA, **asdict(tombstone)}, separators=(",", ":")).encode()
    store.put(keys.tombstone, body, expected=ABSENT)
