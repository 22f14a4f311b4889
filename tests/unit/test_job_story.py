"""The story that `show` tells of a job: where attempts started, what is wrong, what to do, and events in short."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from client.views.diagnosis import diagnose
from client.views.job_story import started_from, story, styled_lines
from client.views.terminal import plain
from client.views.text import local_time
from lifecycle.job_record import AttemptSummary, Backlog, CheckpointRef, JobRecord, Result, Saving, iso
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import State

SAVED = CheckpointRef("m", "d", 4, bytes=2048, sent=1024)
OWNED = JobRecord("j", "s", state=State.RUNNING, epoch=1, owner="n", lease_s=120, checkpoint=SAVED)


def ago(seconds: float) -> str:
    return iso(datetime.now(UTC) - timedelta(seconds=seconds))


def findings(record: JobRecord, age_s: float = 1.0) -> list[tuple[str, str]]:
    return [(one.problem, one.remedy) for one in diagnose(StoredRecord(record, "", age_s))]


def told(record: JobRecord, age_s: float = 1.0, events: tuple[dict[str, Any], ...] = ()) -> str:
    return "\n".join(story(StoredRecord(record, "", age_s), events))


@pytest.mark.parametrize(
    ("facts", "had_checkpoint", "said"),
    [
        ({"resumed_from": 4, "resumed_s": 10.0}, True, "from checkpoint 4"),
        ({"resumed_from": 4, "resumed_step": 60, "resumed_s": 10.0}, True, "from checkpoint 4, step 60"),
        ({"resumed_s": 0.0}, True, "from the input"),
        ({"resumed_step": 60}, True, "from step 60"),
        ({}, True, "from a checkpoint"),
        ({}, False, "from the input"),
    ],
    ids=["no steps", "steps", "from the start", "old record", "old record without steps", "old record, first"],
)
def test_an_attempt_says_where_it_started(facts: dict[str, Any], said: str, *, had_checkpoint: bool) -> None:
    """An attempt names the checkpoint that it resumed from, for programs without steps too."""
    attempt = evolve(AttemptSummary(2, "n", "t"), **facts)
    assert started_from(attempt, had_checkpoint=had_checkpoint) == said


def test_a_healthy_job_has_no_findings() -> None:
    """Nothing is wrong with a job that runs, that waits for a short time, or that is completed."""
    for record in (OWNED, JobRecord("j", "s"), JobRecord("j", "s", state=State.COMPLETED)):
        assert findings(record, age_s=60) == []
        assert "wrong" not in told(record, age_s=60)


@pytest.mark.parametrize(
    ("record", "age_s", "problem", "remedy"),
    [
        (OWNED, 192, "n has not been heard of since its lease ended 1m 12s ago", "takes over from checkpoint 4"),
        (evolve(OWNED, checkpoint=None), 192, "n has not been heard of", "from the input, because nothing was saved"),
        (JobRecord("j", "s", state=State.FAILED, error="exit code 1\nTrace"), 1, "exit code 1", "`holdfast retry j`"),
        (JobRecord("j", "s", state=State.RELEASED, error="exit code 1"), 1, "ended with: exit code 1", "tried again"),
        (JobRecord("j", "s"), 7200, "no worker has taken it for 2h 0m", "`holdfast reconcile`"),
        (
            evolve(OWNED, backlog=Backlog(3 << 30, ago(2 * 86400 + 1800))),
            1,
            "3.0 GiB have been waiting for 2d 0h",
            "STATE_SAVING_INTERVAL",
        ),
        (
            JobRecord("j", "s", state=State.COMPLETED, result=Result(SAVED, 1, 1, problem="a key is refused")),
            1,
            "its outputs cannot be published: a key is refused",
            "`holdfast verify j`",
        ),
    ],
    ids=["stale", "stale, nothing saved", "failed", "to be tried again", "queued for long", "backlog", "not published"],
)
def test_what_is_wrong_and_what_to_do(record: JobRecord, age_s: float, problem: str, remedy: str) -> None:
    """Each problem is named together with its remedy."""
    ((found, help_),) = findings(record, age_s)
    assert problem in found
    assert remedy in help_
    assert problem in told(record, age_s)
    assert remedy in told(record, age_s)


def test_a_job_that_is_not_being_saved_is_wrong() -> None:
    """If no checkpoint is taken, that is the finding, with the reason and the remedy that the owner reports."""
    saving = Saving("train.log changes every second: declare it", since=ago(2 * 86400 + 1800))
    assert findings(evolve(OWNED, saving=saving)) == [
        ("no checkpoint for 2d 0h: train.log changes every second: declare it", "")
    ]
    assert "saving        ok" in told(OWNED)


def test_an_attempt_whose_owner_is_silent_is_not_said_to_run() -> None:
    """The newest attempt runs only while its lease is fresh."""
    record = evolve(OWNED, attempts=(AttemptSummary(1, "n", ago(300)),))
    assert "n: runs" in told(record)
    assert "n: not heard of any more" in told(record, age_s=500)
    assert "stale: silent for 8m 20s" in told(record, age_s=500)
    assert "n: its end was never reported" in told(evolve(record, owner=None, state=State.CANCELLED))


def test_many_checkpoints_in_a_row_are_one_event() -> None:
    """A run of checkpoints is counted, and only the last one is shown; sizes and durations are for people."""
    events = tuple(
        {"at": ago(99 - n), "epoch": 1, "node": "n", "event": "checkpoint", "seq": n, "bytes": 4096, "took_s": 61.5}
        for n in range(9)
    )
    shown = told(OWNED, events=events)
    assert "8 checkpoints" in shown
    assert "seq=8  bytes=4.0 KiB  took=1m 2s" in shown
    assert "seq=7" not in shown


def test_lines_fit_the_terminal() -> None:
    """Long lines are folded under their text, and control characters never reach the terminal."""
    record = JobRecord("j", "s", state=State.FAILED, error="no room \x1b[2J" * 30)
    lines = [plain(line) for line in styled_lines(story(StoredRecord(record, "", 1.0), ()), 60)]
    assert max(map(len, lines)) <= 60
    assert "\x1b" not in "".join(lines)
    after = lines[next(number for number, line in enumerate(lines) if line.startswith("wrong")) + 1]
    assert after.startswith(" " * 14)


def test_times_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of the same day have no date, those of another year have all of it; what is no time stays as it is."""
    now = datetime(2030, 5, 2, 12, tzinfo=UTC).astimezone()
    assert local_time(iso(now - timedelta(minutes=5)), now) == f"{now - timedelta(minutes=5):%H:%M:%S}"
    assert local_time(iso(now - timedelta(days=3)), now).startswith("Apr 29 ")
    assert local_time(iso(now - timedelta(days=500)), now).endswith(" 2028")
    assert local_time("yesterday", now) == "yesterday"
