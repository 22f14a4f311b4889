"""Encoding of job records: one JSON object, UTF-8, at most MAX_BYTES, with a schema number.

Fields that this version does not know are preserved, so an older worker does not destroy what a newer one wrote.
"""

import json
from functools import cache
from typing import Final

import cattrs
from attrs import asdict, evolve, fields_dict

from lifecycle.bounds import MAX_DEPTH, is_deeper, problem_with
from lifecycle.errors import InvalidRecordError
from lifecycle.job_record import LONGEST_LEASE_S, SCHEMA, JobRecord
from lifecycle.outbox import EMPTY
from lifecycle.serialization import strict_converter
from lifecycle.states import State

MAX_BYTES: Final = 1 << 20  # 50 attempts and the end of an error take about 20 KiB, a full outbox 40
MAX_NEW_BYTES: Final = MAX_BYTES // 2  # of a first record: attempts add to it
MAX_RECORD_DEPTH: Final = MAX_DEPTH + 10  # parameters lie inside it
LONGEST_S: Final = 1e10  # of a duration in a record: 300 years


def encode_record(record: JobRecord) -> bytes:
    """Return *record* as JSON."""
    known = asdict(record)
    unknown, schema = known.pop("unknown"), known.pop("schema")
    if record.outbox == EMPTY:  # a job without notices looks as it did before there was an outbox
        del known["outbox"]
    return json.dumps({"schema": schema, **unknown, **known}, separators=(",", ":")).encode()


def decode_record(body: bytes) -> JobRecord:
    """Return the record that was encoded as *body*.

    Raises:
        InvalidRecordError: *body* is too large, not JSON, not a record, out of bounds, or of a newer schema than this
            version knows.
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
    if is_deeper(raw, MAX_RECORD_DEPTH):
        raise InvalidRecordError(f"a job record is nested more than {MAX_RECORD_DEPTH} deep")
    known = {name: raw.pop(name) for name in fields_dict(JobRecord) if name in raw and name != "unknown"}
    try:
        record = evolve(_converter().structure(known, JobRecord), schema=schema, unknown=raw)
    except Exception as error:
        reason = "; ".join(cattrs.transform_error(error, path="record"))
        raise InvalidRecordError(f"a job record does not match its schema: {reason}") from error
    _ensure_durations(record)
    return record


def _ensure_durations(record: JobRecord) -> None:
    durations = [("lease_s", record.lease_s, LONGEST_LEASE_S), ("ran_s", record.ran_s, LONGEST_S)]
    for attempt in record.attempts:
        durations += [("prepared_s", attempt.prepared_s, LONGEST_S), ("useful_s", attempt.useful_s, LONGEST_S)]
    for name, seconds, longest in durations:
        if abs(seconds) > longest:
            raise InvalidRecordError(f"a job record has {name} {seconds!r:.40}, beyond {longest:g}")


def expect_room(record: JobRecord) -> None:
    """Check that *record*, the first of a job, stays readable with all that its attempts add to it.

    Raises:
        InvalidRecordError: It is too large, or its parameters are out of bounds.
    """
    if is_deeper(record.params, MAX_DEPTH):
        raise InvalidRecordError(f"the parameters of {record.job} are nested more than {MAX_DEPTH} deep")
    if problem := problem_with(dict(record.params), "params"):
        raise InvalidRecordError(f"{record.job}: {problem}")
    size = len(encode_record(record))
    if size > MAX_NEW_BYTES:
        raise InvalidRecordError(
            f"the record of {record.job} would have {size} bytes, more than {MAX_NEW_BYTES}: "
            "put large parameters into a file under input/"
        )


@cache
def _converter() -> cattrs.Converter:
    return strict_converter(State)
