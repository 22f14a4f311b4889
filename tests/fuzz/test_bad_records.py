"""A record that makes no sense, however it came about, harms no command that is about other jobs."""

import contextlib
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from support.fuzzing import JSON, as_bytes, fuzz, spoilt
from support.page import new_site

from client.commands import archive, reconcile, report, show, status
from client.config.environment import Environment
from client.operations.exporter_sources import bucket_values
from client.records.query import EVERYTHING
from client.records.record_index import RecordIndex
from client.views.report import GROUPINGS
from client.web.nodes import nodes_of
from client.web.pages import row
from client.web.refresher import Refresher
from lifecycle.job_record import AttemptSummary, Backlog, CheckpointRef, JobRecord, Progress, Timestamps
from lifecycle.record.codec import encode_record
from lifecycle.states import State

STAMP = "2026-01-01T00:00:00+00:00"
REF = CheckpointRef("bad/checkpoints/e1/000001.json", "sha256:00", 1, step=3, bytes=3, sent=3, at=STAMP)
BAD = JobRecord(
    job="bad",
    workload="series-sum",
    params={"STATE_SAVING_INTERVAL": 60},
    state=State.RUNNING,
    epoch=3,
    owner="node",
    lease_s=120.0,
    dispatch=1,
    checkpoint=REF,
    fallback=REF,
    attempts=(AttemptSummary(epoch=3, node="node", started=STAMP, useful_s=3.0, steps=3, commits=1),),
    progress=Progress(done=1, total=2, rate=1.0),
    backlog=Backlog(1, STAMP),
    timestamps=Timestamps(STAMP, STAMP, STAMP, STAMP),
    labels={"name": "text"},
)
ENDED = evolve(BAD, state=State.FAILED, owner=None)
WILD = [10**400, -(10**400), 2**53 + 1, 1e308, 5e-324, float("nan"), float("inf"), "0001-01-01", "9999-12-31T23:59", ""]

pytestmark = pytest.mark.usefixtures("_untraced")


@st.composite
def wild(draw: st.DrawFn, good: Any) -> Any:
    """Replace one number or text anywhere in *good* by an extreme one."""
    value = json.loads(json.dumps(good))
    where = value
    while True:
        key = draw(st.sampled_from(sorted(where) if isinstance(where, dict) else range(len(where))))
        if not isinstance(where[key], dict | list) or not where[key]:
            where[key] = draw(st.sampled_from(WILD))
            return value
        where = where[key]


def strict(line: str) -> Any:
    """Parse a line of output, as a reader does that knows no NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=refuse)


def objects(call: Any) -> list[Any]:
    """Return the JSON objects that *call* prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        call()
    return [strict(line) for line in out.getvalue().splitlines()]


def quietly(call: Any) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        call()
    return out.getvalue()


def check_all(env: Environment) -> None:
    """Run everything that looks at many records, and expect the good job in each."""
    found = objects(lambda: status.run(env, [], EVERYTHING, as_json=True, watch=False))
    assert "good" in [one["job"] for one in found]
    assert "good" in quietly(lambda: status.run(env, [], EVERYTHING, as_json=False, watch=False))
    for by in GROUPINGS:
        objects(lambda by=by: _report(env, by))
    for job in ("good", "bad"):
        objects(lambda job=job: show.run(env, job, as_json=True))
        quietly(lambda job=job: show.run(env, job, as_json=False))
    sent = objects(lambda: reconcile.run(env, older=timedelta(0), dry_run=True, as_json=True))
    assert "good" in [one["job"] for one in sent]
    quietly(lambda: archive.run(env, older=timedelta(days=1), dry_run=True, as_json=False))
    with RecordIndex(env, None) as index:
        refresher = Refresher(env, index)
        summary = refresher._refresh()
        assert (summary.problem, summary.total) == (None, 2)
        assert "good" in [row(one).job for one in index.jobs()]
        nodes_of(index)
        bucket_values(env, index)


def _report(env: Environment, by: str) -> int:
    return report.run(env, EVERYTHING, by=by, hourly_prices={"": 1.0}, as_json=True, file=None, plot=None)


@fuzz(150)
@given(
    st.sampled_from([BAD, ENDED]).map(encode_record).map(json.loads).flatmap(wild).map(as_bytes)
    | spoilt(json.loads(encode_record(BAD))).map(as_bytes)
    | JSON.map(as_bytes)
)
def test_a_bad_record_breaks_no_command_for_the_others(body: bytes) -> None:
    """Every command shows or treats the other job, prints strict JSON, and never ends in a traceback."""
    env = new_site()
    good = JobRecord("good", "series-sum", {"x": 1}, dispatch=1)
    env.store.put(env.layout.job("good").record, encode_record(good))
    env.store.put(env.layout.job("bad").record, body)
    check_all(env)
