"""JSON."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import cattrs
from attrs import asdict, evolve, fields_dict

from lifecycle.errors import InvalidRecordError
from lifecycle.job_record import JobRecord
from lifecycle.outbox import EMPTY
from lifecycle.serialization import strict_converter
from lifecycle.states import State

SCHEMA: Final = 1
MAX_BYTES: Final = 1 << 20  # 50 attempts and an error's tail take about 20 KiB, a full outbox 40
LARGEST_NEW: Final = MAX_BYTES // 2  # the rest is for what attempts add
DEEPEST: Final = 100  # JSON in JSON: far below where Python's recursion ends


@cache
def _converter() -> cattrs.Converter:
    return strict_converter(State)


def expect_room(record: JobRecord) -> None:
    """Make sure that what somebody wants to be a job's first record can be read again whatever attempts add to it.

    Raises:
        InvalidRecordError: It is too large, or nested too deep.
    """
    if _is_deeper(record.params, DEEPEST):
        raise InvalidRecordError(f"the parameters of {record.job} are nested more than {DEEPEST} deep")
    size = len(encode_record(record))
    if size > LARGEST_NEW:
        raise InvalidRecordError(
            f"the record of {record.job} would have {size} bytes, more than {LARGEST_NEW}: "
            "bring large parameters as a file under input/"
        )


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(each, levels - 1) for each in inner)


def encode_record(record: JobRecord) -> bytes:
    """*record* as it lies in the bucket."""
    known = asdict(record)
    unknown = known.pop("unknown")
    if record.outbox == EMPTY:
        del known["outbox"]
    return json.dumps({"schema": SCHEMA, **unknown, **known}, separators=(",", ":")).encode()


def decode_record(body: bytes) -> JobRecord:
    """The record that lies in the bucket as *body*.

    Raises:
        InvalidRecordError: It is not JSON, not a record, or of a newer schema than this version writes.
    """
    if len(body) > MAX_BYTES:
        raise InvalidRecordError(f"a job record of {len(body)} bytes is larger than {MAX_BYTES}")
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRecordError(f"a job record is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidRecordError("a job record is not a JSON object")
    schema = raw.pop("schema", None)
    if type(schema) is not int or schema < 1:
        raise InvalidRecordError(f"a job record has schema {schema!r:.40}, which is not a version number")
    if schema > SCHEMA:
        raise InvalidRecordError(
            f"a job record has schema {schema}, newer than {SCHEMA}: update this Holdfast and try again"
        )
    known = {name: raw.pop(name) for name in fields_dict(JobRecord) if name in raw and name != "unknown"}
    try:
        return evolve(_converter().structure(known, JobRecord), unknown=raw)
    except Exception as error:
        reason = "; ".join(cattrs.transform_error(error, path="record"))
        raise InvalidRecordError(f"a job record does not fit its schema: {reason}") from error
