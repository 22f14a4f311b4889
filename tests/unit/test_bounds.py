"""Bounds are checked where data enters: numbers, depths, and what the commands and the dashboard show of them."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve
from support.cluster import LAYOUT
from support.page import new_site, put

from adapters.process.progress import number, read_progress, whole
from adapters.process.runner import ProcessRunner
from client.commands import status
from client.commands.submit import read_requests
from client.config.environment import Environment
from client.operations.submission import JobRequest, submit
from client.records.query import EVERYTHING
from client.records.record_index import RecordIndex
from client.views.json_text import to_json
from client.web.refresher import Refresher
from lifecycle.bounds import LARGEST_INTEGER, finite, is_bounded, problem_with
from lifecycle.errors import InvalidRecordError, PermanentError, RejectedMessageError
from lifecycle.job_record import AttemptSummary, JobRecord
from lifecycle.ports.runner import JobDirs, Launch, Workload
from lifecycle.record.codec import decode_record, encode_record
from lifecycle.record.message import parse_message

GOOD = json.loads(encode_record(JobRecord("a", "w", attempts=(AttemptSummary(1, "n", "2026-01-01T00:00:00+00:00"),))))


def test_numbers_are_bounded_where_json_readers_agree() -> None:
    """Whole numbers to 2^53 and finite floats are the same for every reader of JSON; nothing else is accepted."""
    assert is_bounded(LARGEST_INTEGER)
    assert is_bounded(-1.5)
    for value in (LARGEST_INTEGER + 1, -LARGEST_INTEGER - 1, 10**400, float("nan"), float("inf"), 1e300):
        assert not is_bounded(value)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"seed": 2**53}, None),
        ({"rate": 1e300, "name": "x", "list": [1, None, True]}, None),
        ({"seed": 2**53 + 1}, "params.seed is a whole number beyond 2^53"),
        ({"a": [{"b": float("nan")}]}, "params.a.0.b is nan"),
        ({"a": float("inf")}, "params.a is inf"),
    ],
)
def test_parameters_out_of_bounds_are_named(value: dict[str, Any], problem: str | None) -> None:
    """The problem names the parameter that is out of bounds."""
    assert (problem_with(value, "params") or "").startswith(problem or "")
    assert (problem_with(value, "params") is None) == (problem is None)


@pytest.mark.parametrize("text", ["1" * 400, "-" + "9" * 17, "1" * 5000])
def test_reported_progress_out_of_bounds_is_no_progress(text: str, tmp_path: Path) -> None:
    """A number beyond 2^53 is not progress, in whatever form a program reports it."""
    assert number(text) is None
    file = tmp_path / "progress"
    file.write_text(f'{{"done": 1, "total": {text}}}')
    assert whole(read_progress(file).get("total")) is None
    file.write_text(f"1 {text}")
    assert read_progress(file).get("total") is None


@pytest.mark.parametrize("digits", [17, 400, 4300])
def test_a_message_with_an_enormous_number_is_refused(digits: int) -> None:
    """A message sequence beyond 2^53 would break every command that adds one to it."""
    with pytest.raises(RejectedMessageError, match=r"dispatch|not JSON"):
        parse_message(f'{{"job": "a", "dispatch": {"9" * digits}}}', layout=LAYOUT, bucket="")


@pytest.mark.parametrize("params", ['{"x": NaN}', '{"x": 1e999}', f'{{"x": {10**400}}}'])
def test_a_message_with_parameters_out_of_bounds_is_refused(params: str) -> None:
    """NaN, infinity and whole numbers beyond 2^53 enter no record."""
    with pytest.raises(RejectedMessageError, match=r"params\.x is"):
        parse_message(f'{{"job": "a", "workload": "w", "params": {params}}}', layout=LAYOUT, bucket="")


def test_a_submit_of_parameters_out_of_bounds_is_refused() -> None:
    """Submit names the parameter, and submits the other jobs."""
    requests = read_requests(["a"], file=None, workload="w", params=[f"seed={2**64}", "x=1e999"])
    results = {one.job: one for one in submit(new_site(), [*requests, JobRequest("b", "w", {})])}
    assert results["a"].outcome == "failed"
    assert "params.seed is a whole number beyond 2^53" in (results["a"].reason or "")
    assert results["b"].outcome == "submitted"


@pytest.mark.parametrize(
    "change",
    [
        {"dispatch": 10**400},
        {"dispatch": 2**53 + 1},
        {"lease_s": float("inf")},
        {"lease_s": 1e9},
        {"ran_s": 1e14},
        {"progress": {"done": 10**400}},
        {"progress": {"rate": float("nan")}},
        {"attempts": [{**GOOD["attempts"][0], "useful_s": 1e12}]},
        {"params": json.loads('{"a":' * 300 + "1" + "}" * 300)},
        {"from a later version": json.loads("[" * 300 + "]" * 300)},
    ],
)
def test_a_record_out_of_bounds_is_refused(change: dict[str, Any]) -> None:
    """Numbers, durations and depths that no command or attempt could handle make a record invalid."""
    with pytest.raises(InvalidRecordError):
        decode_record(json.dumps({**GOOD, **change}).encode())


def test_parameters_that_an_earlier_version_accepted_are_still_read() -> None:
    """Seeds of 64 bits may be in records that exist; they are read, and shown as they are."""
    raw = json.dumps({**GOOD, "params": {"seed": 2**64, "x": float("nan")}}).encode()
    assert decode_record(raw).params["seed"] == 2**64


def test_json_output_has_no_nan() -> None:
    """Python's JSON has NaN and Infinity, which other readers refuse; they become null."""
    assert to_json({"a": [float("nan"), 1.5], "b": {"c": float("-inf")}, "d": True}) == (
        '{"a": [null, 1.5], "b": {"c": null}, "d": true}'
    )
    assert finite((1, "x")) == [1, "x"]


def test_status_prints_strict_json_of_a_record_with_nan(capsys: pytest.CaptureFixture[str]) -> None:
    """A parameter NaN, in a record of an earlier version, is null in the output."""
    env = new_site()
    put(env, JobRecord("a", "w", {"x": float("nan")}))
    status.run(env, [], EVERYTHING, as_json=True, watch=False)
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["params"] == {"x": None}


def test_a_copy_that_an_earlier_version_accepted_is_a_problem_of_its_job(tmp_path: Path) -> None:
    """A row of the index that this version refuses does not keep the others from being shown."""
    env = new_site()
    put(env, JobRecord("a", "w"), JobRecord("b", "w"))
    with RecordIndex(env, tmp_path / "index") as index:
        index.refresh()
        index.db.change(("UPDATE jobs SET body = ? WHERE job = 'a'", [(b'{"schema": 1, "dispatch": 1e999}',)]))
        found = {one.job: one for one in index.jobs()}
    assert found["a"].stored is None
    assert "a job record" in (found["a"].problem or "")
    assert found["b"].stored is not None


class Failing:
    """A record index that fails with an error that nothing expects."""

    def __init__(self, index: RecordIndex) -> None:
        self._index = index
        self.is_broken = True

    def refresh(self) -> Any:
        if self.is_broken:
            raise OverflowError("int too large to convert to float")
        return self._index.refresh()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)


def test_the_dashboard_survives_any_error() -> None:
    """A refresh that fails in an unexpected way is shown as a problem, and the next one brings new data."""
    env: Environment = new_site()
    put(env, JobRecord("a", "w"))
    with RecordIndex(env, None) as index:
        failing: Any = Failing(index)
        refresher = Refresher(env, failing)
        refresher._interval_s = 0.01

        async def look() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refresher.run)
                first = await refresher.next(0, 10)
                assert "OverflowError" in (first.problem or "")
                failing.is_broken = False
                second = await refresher.next(first.number, 10)
                assert (second.problem, second.total) == (None, 1)
                tasks.cancel_scope.cancel()

        anyio.run(look)


def test_a_total_out_of_bounds_fails_the_job(tmp_path: Path) -> None:
    """A number of steps that no record can hold is invalid, here and on any node."""
    workload = Workload("w", ("true",), total="{steps}")
    launch = Launch(workload, "a", 1, {"steps": 10**400}, False, timedelta(seconds=1), JobDirs(tmp_path))
    with pytest.raises(PermanentError, match=r"total is .* not a whole number"):
        ProcessRunner(environment={}).start(evolve(launch, workload=evolve(workload, command=("/bin/true",))))
