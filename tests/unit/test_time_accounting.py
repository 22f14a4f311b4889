"""Time accounting, and its display by `show` and `report`."""

import csv
import json
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from adapters.memory.clock import ManualClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from client.commands import report, show
from client.config.environment import Environment
from client.config.settings import from_environ
from client.records.query import parse_query
from client.views.report import add_up, parse_hourly_prices
from client.views.report_table import percentages, table
from client.views.request_costs import RequestPrices
from client.views.text import local_time
from client.views.time_accounting import TimeBreakdown, attempt_times, job_time
from client.views.timeline import timeline
from lifecycle.errors import ConfigError
from lifecycle.job_record import AttemptSummary, CheckpointRef, JobRecord, Timestamps
from lifecycle.key_layout import KeyLayout
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import RecordStore
from lifecycle.states import State


def at(minute: float) -> str:
    return f"2030-01-01T00:{int(minute):02d}:{round(minute % 1 * 60):02d}.000+00:00"


FIRST = AttemptSummary(1, "n1", at(10), kind="A", outcome="vanished", prepared_s=60, useful_s=540, steps=90, commits=2)
SECOND = AttemptSummary(
    2, "n2", at(22), kind="B", ended=at(28), outcome="timeout", resumed_step=60, prepared_s=30, useful_s=300, steps=50
)
THIRD = AttemptSummary(
    3, "n1", at(33), kind="A", ended=at(36), outcome="completed", resumed_step=110, useful_s=180, steps=30
)
JOB = JobRecord(
    "j", "relax", state=State.COMPLETED, attempts=(FIRST, SECOND, THIRD), timestamps=Timestamps(submitted=at(5))
)


def test_every_second_has_a_cause() -> None:
    """Each second of a job is counted once: useful, redone, overhead, node loss or idle."""
    found = [(entry.time, entry.redone_steps) for entry in attempt_times(JOB)]
    assert found == [
        (TimeBreakdown(useful=360, redo=180, restore=60, node_loss=120), 30),
        (TimeBreakdown(useful=300, restore=30, upload=30, idle=300), 0),
        (TimeBreakdown(useful=180), 0),
    ]
    whole = job_time(JOB)
    assert (whole.total, whole.idle, whole.owned) == (31 * 60, 600, 1140)


def test_unsaved_steps_are_lost_only_after_the_end() -> None:
    """Steps beyond the checkpoint count as redone once the attempt has ended, not while it runs."""
    ref = CheckpointRef("m", "d", 1, step=20)
    running = JobRecord(
        "j", "s", state=State.RUNNING, checkpoint=ref, attempts=(AttemptSummary(1, "n", at(1), steps=30),)
    )
    assert [entry.redone_steps for entry in attempt_times(running)] == [0]
    refused = AttemptSummary(2, "n", at(9), ended=at(9), outcome="invalid")
    failed = JobRecord("j", "s", state=State.FAILED, checkpoint=ref, attempts=(*running.attempts, refused))
    assert [entry.redone_steps for entry in attempt_times(failed)] == [10, 0]


def lost_and_useful(record: JobRecord) -> list[tuple[float, float]]:
    return [(one.time.redo, one.time.useful) for one in attempt_times(record)]


def ran(epoch: int, *, from_s: float | None, ran_s: float, outcome: str | None = "vanished") -> AttemptSummary:
    """Return an attempt of a program without steps that resumed after *from_s* seconds of work and ran for *ran_s*."""
    ended = at(epoch * 10 + 9) if outcome not in {None, "vanished"} else None
    return AttemptSummary(
        epoch, "n", at(epoch * 10), ended=ended, outcome=outcome, prepared_s=1, useful_s=ran_s, resumed_s=from_s
    )


def test_without_steps_only_what_a_checkpoint_preserved_is_useful() -> None:
    """A program that reports no steps is useful up to the point from which the next attempt went on, and no further."""
    attempts = (ran(1, from_s=0, ran_s=300), ran(2, from_s=200, ran_s=300), ran(3, from_s=350, ran_s=50, outcome=None))
    record = JobRecord("j", "s", state=State.RUNNING, owner="n", epoch=3, attempts=attempts)
    assert lost_and_useful(record) == [(100, 200), (150, 150), (0, 50)]


def test_an_attempt_that_vanished_without_a_checkpoint_is_all_lost() -> None:
    """A node that vanished before the first checkpoint did nothing useful, with steps or without."""
    last = ran(2, from_s=0.0, ran_s=60, outcome="completed")
    for first in (ran(1, from_s=0, ran_s=400), ran(1, from_s=None, ran_s=400)):
        for steps in (0, 90):
            record = JobRecord("j", "s", state=State.COMPLETED, attempts=(evolve(first, steps=steps), last))
            assert lost_and_useful(record) == [(400, 0), (0, 60)]


def test_a_fallback_loses_the_work_of_earlier_attempts() -> None:
    """If an attempt goes on from an older checkpoint, what lies beyond that is lost, whichever attempt had done it."""
    attempts = (ran(1, from_s=0, ran_s=300), ran(2, from_s=300, ran_s=100), ran(3, from_s=250, ran_s=90, outcome=None))
    record = JobRecord("j", "s", state=State.RUNNING, owner="n", epoch=3, attempts=attempts)
    assert lost_and_useful(record) == [(50, 250), (100, 0), (0, 90)]


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_a_job_without_a_result_has_no_useful_time(state: State) -> None:
    """The work of a failed or cancelled job is in no result: what was saved, and what was not, is shown as such."""
    saved = CheckpointRef("m", "d", 1, computed_s=250)
    record = JobRecord("j", "s", state=state, checkpoint=saved, attempts=(ran(1, from_s=0, ran_s=300, outcome="x"),))
    time = job_time(record)
    assert (time.useful, time.no_result, time.redo) == (0, 250, 50)


def test_a_job_that_hung_three_times_and_failed_was_all_loss() -> None:
    """Time in which the program hung, and nothing was saved, is never useful."""
    attempts = tuple(ran(n, from_s=0, ran_s=300, outcome="workload_failed") for n in (1, 2, 3))
    assert job_time(JobRecord("j", "s", state=State.FAILED, attempts=attempts)).useful_share == 0
    again = JobRecord("j", "s", state=State.RELEASED, attempts=attempts)
    assert job_time(again).redo == 900


@pytest.mark.parametrize("parts", [(1, 1, 1), (0.01, 2, 7000.5, 3), (5,), (1, 2, 3, 4, 5, 6, 7)])
def test_shares_add_up_to_a_hundred(parts: tuple[float, ...]) -> None:
    """Rounded shares add up to 100.0 %."""
    assert sum(round(float(text.rstrip("%")) * 10) for text in percentages(parts)) == 1000


def test_the_parts_of_the_report_are_all_of_node_time(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """Useful, lost, fruitless, loading and saving time add up to the time of nodes, and losses have causes."""
    attempts = (ran(1, from_s=0, ran_s=360), ran(2, from_s=180, ran_s=360, outcome="workload_failed"))
    failed = JobRecord("k", "s", state=State.FAILED, attempts=attempts, checkpoint=CheckpointRef("m", "d", 1))
    env.store.put(env.layout.job("k").record, encode_record(failed))
    assert report.run(env, parse_query(), by="job", hourly_prices={}, as_json=True, file=None, plot=None) == 0
    for row in map(json.loads, capsys.readouterr().out.splitlines()):
        parts = sum(row[f"{name}_h"] for name in ("useful", "redo", "no_result", "restore", "upload"))
        assert parts == pytest.approx(row["node_h"], abs=0.001)
        losses = sum(row[f"lost_{name}_h"] for name in ("node", "failure", "stop"))
        assert losses == pytest.approx(row["redo_h"], abs=0.001)


@pytest.mark.parametrize("width", [80, 120])
def test_the_report_fits_the_terminal(env: Environment, width: int) -> None:
    """The table of groups has no line that is wider than the terminal: costs of calls go first."""
    lines = add_up([evolve(JOB, job="a-rather-long-name-for-a-job-" * 2)], by="job", hourly_prices={"": 1.0})
    assert max(map(len, table(lines, RequestPrices(), width, with_cost=True))) <= width


def test_skewed_clocks_make_nothing_negative() -> None:
    """No time is negative if the clocks of nodes disagree, or if a time cannot be parsed."""
    odd = JobRecord(
        "j",
        "s",
        attempts=(
            AttemptSummary(1, "n", at(59), outcome="vanished", useful_s=10),
            AttemptSummary(2, "n", at(1), ended="yesterday", useful_s=10),
            AttemptSummary(3, "n", at(2), ended=at(1)),
        ),
    )
    for entry in attempt_times(odd):
        assert min(entry.time.__getattribute__(name) for name in ("useful", "redo", "upload", "node_loss", "idle")) >= 0


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.chdir(tmp_path)
    clock, settings = ManualClock(), from_environ({}, None)
    store = MemoryStore(clock)
    record_store = RecordStore(store, clock, random.Random(1))
    env = Environment(settings, clock, MemoryQueue(clock), store, record_store, KeyLayout(""), "", settings.limits())
    store.put(env.layout.job("j").record, encode_record(JOB))
    return env


def test_show_prints_attempts_times_and_events(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """`show` prints attempts, time accounting and events, without control characters."""
    event = {"at": at(23), "epoch": 2, "node": "n2", "event": "resumed", "step": 60, "why": "\x1b[2J"}
    env.store.put(env.layout.job("j").log(2), f"{json.dumps(event)}\nhalf a li".encode())
    assert show.run(env, "j", as_json=False) == 0
    told = capsys.readouterr().out
    assert f"e1  {local_time(at(10))}  n1 (A): its node vanished" in told
    assert "from the input; 90 steps in 9m 0s, 2 checkpoints" in told
    assert "3m 0s of work (30 steps) was lost and had to be repeated" in told
    assert "2m 0s until another node took over" in told
    assert "node lost        2m 0s" in told
    assert "useful        14m 0s   73.7%" in told
    assert "e2  n2  resumed  step=60" in told
    assert "2030-01-01T" not in told
    assert "\x1b" not in told
    assert show.run(env, "j", as_json=True) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["spent"]["redo"] == 180
    assert [one["event"] for one in whole["events"]] == ["queued", "node_lost", "resumed"]
    assert whole["events"][1]["last_sign_of_life"] == at(20)
    assert event in whole["events"]
    assert "about 45 to the queue" in told
    assert show.run(env, "nowhere", as_json=False) == 1


def test_the_timeline_contains_operators_actions() -> None:
    """Retries and cancellations appear in the timeline, found by the epochs that no attempt has."""
    attempts = (AttemptSummary(1, "n", at(1), ended=at(2), outcome="failed"), AttemptSummary(3, "n", at(9)))
    stamps = Timestamps(submitted=at(0), updated=at(20), finished=at(20))
    record = JobRecord("j", "s", state=State.CANCELLED, epoch=4, attempts=attempts, timestamps=stamps)
    told = [(one["at"], one["epoch"], one["event"]) for one in timeline(record, [])]
    assert told == [(at(0), 0, "queued"), (at(9), 3, "opened_again"), (at(20), 4, "cancelled")]
    assert timeline(JobRecord("j", "s"), []) == []


def test_report_sums_by_group(env: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A report sums time and cost by the chosen group, as text, JSON, CSV and drawing."""
    files: dict[str, Any] = {"file": tmp_path / "r.csv", "plot": tmp_path / "r.svg"}
    hourly_prices = parse_hourly_prices(["A=6", "0.5"])
    assert report.run(env, parse_query(), by="kind", hourly_prices=hourly_prices, as_json=True, **files) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["name"], row["attempts"], row["cost"]) for row in rows] == [("A", 2, 1.3), ("B", 1, 0.05)]
    assert rows[0]["redo_h"] == 0.05
    assert [row["name"] for row in csv.DictReader((tmp_path / "r.csv").read_text().splitlines())] == ["A", "B"]
    drawn = ET.parse(tmp_path / "r.svg")  # noqa: S314 - our own
    assert "lost: 0.05 h" in [each.text for each in drawn.iter() if each.tag.endswith("title")]
    assert report.run(env, parse_query(), by="all", hourly_prices={}, as_json=False, file=None, plot=None) == 0
    told = capsys.readouterr().out
    assert [line.split() for line in told.splitlines()[1:9]] == [
        ["node", "time", "0.32", "h", "100.0%"],
        ["useful", "0.23", "h", "73.7%"],
        ["lost", "0.05", "h", "15.8%"],
        ["0.05", "h", "with", "nodes", "that", "vanished"],
        ["loading", "0.03", "h", "7.9%"],
        ["saving", "0.01", "h", "2.6%"],
        ["waiting", "0.20", "h"],
        ["0.03", "h", "until", "another", "node", "took", "over"],
    ]


@pytest.mark.parametrize("text", ["A=much", "cheap", "A=-1", "inf"])
def test_an_invalid_price_is_refused(text: str) -> None:
    """An invalid price is an error that names the option."""
    with pytest.raises(ConfigError, match="--price"):
        parse_hourly_prices([text])
