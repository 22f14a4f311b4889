"""Time accounting, and its display by `show` and `report`."""

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
    assert "redo: 0.05 h" in [each.text for each in drawn.iter() if each.tag.endswith("title")]
    assert report.run(env, parse_query(), by="all", hourly_prices={}, as_json=False, file=None, plot=None) == 0
    assert "all jobs     1         3  0.23 h  0.05 h   0.03 h  0.01 h     0.03 h  0.17 h" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["A=much", "cheap", "A=-1", "inf"])
def test_an_invalid_price_is_refused(text: str) -> None:
    """An invalid price is an error that names the option."""
    with pytest.raises(ConfigError, match="--price"):
        parse_hourly_prices([text])
