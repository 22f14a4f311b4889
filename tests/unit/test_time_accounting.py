"""Where a job's time went, and what `show` and `report` make of it."""

import csv
import json
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from adapters.memory.clock import ManualClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from client.commands import report, show
from client.config.environment import Environment
from client.config.settings import from_environ
from client.records.query import parse_query
from client.views.report import parse_hourly_prices
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
    """A third of the first attempt was done again; nobody noticed its death for two minutes."""
    found = [(entry.time, entry.redone_steps) for entry in attempt_times(JOB)]
    assert found == [
        (TimeBreakdown(useful=360, redo=180, restore=60, node_loss=120), 30),
        (TimeBreakdown(useful=300, restore=30, upload=30, idle=300), 0),
        (TimeBreakdown(useful=180), 0),
    ]
    whole = job_time(JOB)
    assert (whole.total, whole.idle, whole.owned) == (31 * 60, 600, 1140)


def test_what_is_not_saved_yet_is_not_lost_yet() -> None:
    """While the attempt runs; once it has ended without a successor, what its checkpoint lacks is."""
    ref = CheckpointRef("m", "d", 1, step=20)
    running = JobRecord(
        "j", "s", state=State.RUNNING, checkpoint=ref, attempts=(AttemptSummary(1, "n", at(1), steps=30),)
    )
    assert [entry.redone_steps for entry in attempt_times(running)] == [0]
    refused = AttemptSummary(2, "n", at(9), ended=at(9), outcome="invalid")
    failed = JobRecord("j", "s", state=State.FAILED, checkpoint=ref, attempts=(*running.attempts, refused))
    assert [entry.redone_steps for entry in attempt_times(failed)] == [10, 0]


def test_clocks_that_disagree_make_nothing_negative() -> None:
    """Another node's clock is an hour behind; and a time that is none."""
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


def test_show_tells_all_of_a_job(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """Attempts, time and events; a workload's control characters do not reach the terminal."""
    event = {"at": at(23), "epoch": 2, "node": "n2", "event": "resumed", "step": 60, "why": "\x1b[2J"}
    env.store.put(env.layout.job("j").log(2), f"{json.dumps(event)}\nhalf a li".encode())
    assert show.run(env, "j", as_json=False) == 0
    told = capsys.readouterr().out
    assert (
        "e1  2030-01-01T00:10:00.000+00:00  n1 (A)  vanished: from the input, 90 steps in 9m 0s, 30 of them to be"
        in told
    )
    assert "then 2m 0s until another node took over" in told
    assert "node loss       2m 0s    6.5%" in told
    assert "e2  n2  resumed  step=60" in told
    assert "\x1b" not in told
    assert show.run(env, "j", as_json=True) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["spent"]["redo"] == 180
    assert [one["event"] for one in whole["events"]] == ["queued", "node_lost", "resumed"]
    assert whole["events"][1]["last_sign_of_life"] == at(20)
    assert event in whole["events"]
    assert "about 45 to the queue" in told
    assert show.run(env, "nowhere", as_json=False) == 1


def test_what_operators_did_is_told_from_the_record() -> None:
    """A retry makes an epoch that no attempt has; so does a cancellation of a job that nobody owns."""
    attempts = (AttemptSummary(1, "n", at(1), ended=at(2), outcome="failed"), AttemptSummary(3, "n", at(9)))
    stamps = Timestamps(submitted=at(0), updated=at(20), finished=at(20))
    record = JobRecord("j", "s", state=State.CANCELLED, epoch=4, attempts=attempts, timestamps=stamps)
    told = [(one["at"], one["epoch"], one["event"]) for one in timeline(record, [])]
    assert told == [(at(0), 0, "queued"), (at(9), 3, "opened_again"), (at(20), 4, "cancelled")]
    assert timeline(JobRecord("j", "s"), []) == []


def test_report_adds_up_by_what_is_asked(env: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON, CSV and a drawing; money at the price of each kind."""
    files: dict[str, Any] = {"file": tmp_path / "r.csv", "plot": tmp_path / "r.svg"}
    hourly_prices = parse_hourly_prices(["A=6", "0.5"])
    assert report.run(env, parse_query(), by="kind", hourly_prices=hourly_prices, as_json=True, **files) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["name"], row["attempts"], row["cost"]) for row in rows] == [("A", 2, 1.3), ("B", 1, 0.05)]
    assert rows[0]["redo_h"] == 0.05
    assert [row["name"] for row in csv.DictReader((tmp_path / "r.csv").read_text().splitlines())] == ["A", "B"]
    drawn = ET.parse(tmp_path / "r.svg")  # noqa: S314 - our own
    assert "redo: 0.05 h" in [each.text for each in drawn.iter() if each.tag.endswith("title")]
    assert report.run(env, parse_query(), by="all", hourly_prices={}, as_json=False, file=None, plot=None) == 0
    assert "all jobs     1         3  0.23 h  0.05 h   0.03 h  0.01 h     0.03 h  0.17 h" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["A=much", "cheap", "A=-1", "inf"])
def test_a_price_that_is_none_is_said(text: str) -> None:
    """In a line."""
    with pytest.raises(ConfigError, match="--price"):
        parse_hourly_prices([text])
