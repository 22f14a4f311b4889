"""The record and its JSON: encoding loses nothing, and invalid records are refused."""

import json

import pytest
from attrs import evolve

from lifecycle.errors import InvalidRecordError
from lifecycle.job_record import SCHEMA, AttemptSummary, CheckpointRef, JobRecord, Progress, Result
from lifecycle.record.codec import decode_record, encode_record
from lifecycle.states import State

REF = CheckpointRef(manifest="j/checkpoints/e1/000001.json", digest="sha256:00", seq=1, step=7, bytes=3)
FULL = JobRecord(
    job="j",
    workload="series-sum",
    params={"a": 1, "b": [None, "x"]},
    state=State.CHECKPOINTING,
    epoch=3,
    owner="node",
    lease_s=120.0,
    beat=5,
    write_id="00ff",
    dispatch=2,
    checkpoint=REF,
    fallback=REF,
    progress=Progress(done=1, total=2, rate=0.5),
    failures=1,
    deaths=2,
    interruptions={"drained": 1},
    attempts=(AttemptSummary(epoch=3, node="node", started="t"),),
    result=Result(REF, files=1, bytes=3),
    error="no",
)


def test_a_record_survives_its_encoding() -> None:
    """Every field survives encoding and decoding."""
    assert decode_record(encode_record(FULL)) == FULL


def test_fields_of_a_later_version_are_kept() -> None:
    """Fields that this version does not know are written back unchanged."""
    raw = json.loads(encode_record(FULL))
    raw["colour"] = {"r": 1}
    record = decode_record(json.dumps(raw).encode())
    assert json.loads(encode_record(evolve(record, beat=6)))["colour"] == {"r": 1}


@pytest.mark.parametrize("schema", [1, SCHEMA])
def test_a_change_keeps_the_schema_that_it_found(schema: int) -> None:
    """A newer operator must not shut out the older worker that owns the job."""
    raw = {**json.loads(encode_record(FULL)), "schema": schema}
    record = decode_record(json.dumps(raw).encode())
    assert json.loads(encode_record(evolve(record, beat=6)))["schema"] == schema
    assert json.loads(encode_record(FULL))["schema"] == 1


def test_a_newer_schema_is_refused_with_the_remedy() -> None:
    """A record with a newer schema is refused, and the error says to update."""
    raw = json.loads(encode_record(FULL))
    raw["schema"] = SCHEMA + 1
    with pytest.raises(InvalidRecordError, match="update this Holdfast"):
        decode_record(json.dumps(raw).encode())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"job": 1}, "record.job"),
        ({"state": "flying"}, "record.state"),
        ({"epoch": "3"}, "record.epoch"),
        ({"epoch": True}, "record.epoch"),
        ({"lease_s": "long"}, "record.lease_s"),
        ({"attempts": [{"epoch": 1}]}, "record.attempts"),
        ({"schema": "1"}, "schema"),
        ({"schema": None}, "schema"),
    ],
)
def test_the_error_names_the_invalid_field(change: dict[str, object], named: str) -> None:
    """A field of the wrong type is refused, and the error names it."""
    raw = {**json.loads(encode_record(FULL)), **change}
    with pytest.raises(InvalidRecordError, match=named):
        decode_record(json.dumps(raw).encode())


def test_a_lease_is_fresh_for_its_length_and_a_second() -> None:
    """A lease is valid for its length and one second, because ages are truncated. Waiting states are never owned."""
    record = evolve(FULL, lease_s=10.0)
    assert record.is_owned(11.0)
    assert not record.is_owned(11.1)
    assert not evolve(record, state=State.RELEASED).is_owned(0.0)


def test_a_settled_job_is_final_and_published() -> None:
    """A final job is settled once its outputs, if it has any, are published."""
    completed = evolve(FULL, state=State.COMPLETED)
    assert not completed.is_settled
    assert evolve(completed, result=Result(REF, files=1, bytes=3, published=True)).is_settled
    assert evolve(FULL, state=State.FAILED, result=None).is_settled
    assert not FULL.is_settled
