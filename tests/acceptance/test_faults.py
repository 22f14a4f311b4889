"""The faults in docs/protocol.md, with real processes and real signals."""

import json
import signal
import time

import pytest
from support.process_cluster import ProcessCluster, has_checkpoint

from lifecycle.ports.queue import Message
from lifecycle.record.message import announce
from lifecycle.states import State

pytestmark = pytest.mark.acceptance

SUM = "4148640"
LEASE_S = 5.0


def test_sigkill_of_the_owner(cluster: ProcessCluster) -> None:
    """Another worker continues from the last commit once the lease is over, and the sum is right."""
    cluster.submit("a")
    first = cluster.worker()
    cluster.until("a", has_checkpoint)
    first.kill()
    first.wait()
    before = cluster.record("a").checkpoint
    cluster.worker("--max-jobs", "1")
    cluster.until("a", lambda record: record.epoch == 2)
    record = cluster.settled("a")
    assert [attempt.outcome for attempt in record.attempts] == ["vanished", "completed"]
    assert before is not None
    assert record.attempts[1].resumed_step == before.step
    assert cluster.output("a") == SUM
    assert record.interruptions == {"node_lost": 1}


def test_sigstop_beyond_the_lease(cluster: ProcessCluster) -> None:
    """A node that was suspended while another finished its job ends superseded, and changes nothing."""
    cluster.submit("a")
    first = cluster.worker("--max-jobs", "1")
    cluster.until("a", has_checkpoint)
    first.send_signal(signal.SIGSTOP)
    second = cluster.worker("--max-jobs", "1")
    assert second.wait(60) == 0
    assert cluster.record("a").is_settled
    stored = {listed.key: listed.version for listed in cluster.env.store.list("")}
    finished = {key: version for key, version in stored.items() if "/e1" not in key}  # its log may have been in flight
    first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 0
    assert "superseded" in cluster.log_of(first)
    now = {listed.key: listed.version for listed in cluster.env.store.list("")}
    assert {key: now.get(key) for key in finished} == finished
    assert all("/e1" in key for key in now.keys() - finished.keys())
    record = cluster.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["vanished", "completed"]
    assert cluster.output("a") == SUM


def test_sigterm_of_the_owner(cluster: ProcessCluster) -> None:
    """The worker saves, commits, releases its job and exits with 0; another takes it as released and loses nothing."""
    cluster.submit("a", step_s=0.006)
    first = cluster.worker()
    cluster.until("a", has_checkpoint)
    second = cluster.worker("--max-jobs", "1", STOP_GRACE="1s")
    time.sleep(2)
    first.terminate()
    cluster.until("a", lambda record: record.epoch == 2)
    assert first.wait(30) == 0
    record = cluster.settled("a")
    assert [attempt.outcome for attempt in record.attempts] == ["drained", "completed"]
    assert record.attempts[1].resumed_step == record.attempts[0].steps
    assert cluster.output("a") == SUM
    assert second.wait(30) == 0


def test_a_job_longer_than_max_running_time(cluster: ProcessCluster) -> None:
    """A long job pauses, each time with a new message, and has one message at any time."""
    cluster.submit("a", step_s=0.005, STATE_SAVING_INTERVAL=2)
    cluster.worker("--idle-exit", "5s", MAX_RUNNING_TIME="3s")
    record = cluster.settled("a")
    outcomes = [attempt.outcome for attempt in record.attempts]
    assert outcomes.count("timeout") >= 2
    assert outcomes == ["timeout"] * (len(outcomes) - 1) + ["completed"]
    assert record.dispatch == len(outcomes)
    assert sum(attempt.steps for attempt in record.attempts) == 2880
    assert cluster.output("a") == SUM
    cluster.empty()


@pytest.mark.parametrize("copies", [2, 20])
def test_the_same_message_many_times(files: ProcessCluster, copies: int) -> None:
    """Duplicate messages cause one attempt at a time and one completion, and are deleted when received again."""
    files.submit("a", step_s=0.001)
    files.env.queue.send([announce(files.record("a"), 1)] * (copies - 1))
    for _ in range(2):
        files.worker()
    record = files.settled("a")
    assert [attempt.outcome for attempt in record.attempts] == ["completed"]
    assert files.output("a") == SUM
    files.empty()
    assert len(files.record("a").attempts) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("5\n3\n", "input.txt: start 5 is greater than end 3"),
        ("one\ntwo\n", "input.txt: 'one' is not a whole number"),
        ("1\n", "input.txt: has 1 lines, not 2 numbers, one a line"),
        (None, "no input: neither"),
    ],
)
def test_a_job_that_cannot_succeed(files: ProcessCluster, text: str | None, reason: str) -> None:
    """A job with invalid input fails at once, with the reason in one line."""
    if text is not None:
        files.env.store.put(f"{files.env.layout.job('a').input}input.txt", text.encode())
    assert files.holdfast("submit", "--no-input", "a").returncode == 0
    assert files.worker("--idle-exit", "1s").wait(60) == 0
    record = files.record("a")
    assert record.state is State.FAILED
    assert (record.error or "").startswith(reason)
    assert "\n" not in (record.error or "")
    files.empty()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("hello", "not JSON"),
        ("[1]", "not a JSON object"),
        ("{{}}", "not a job id"),
        ('{{"job": "lost", "bucket": "{bucket}", "prefix": "{prefix}"}}', "no record"),
    ],
)
def test_an_invalid_message(cluster: ProcessCluster, body: str, reason: str) -> None:
    """An invalid message is stored under rejected/ with a one-line reason, and deleted."""
    body = body.format(bucket=cluster.env.bucket, prefix=cluster.env.layout.prefix)
    cluster.env.queue.send([Message(body=body, job="x", dedup="x")])
    assert cluster.worker("--idle-exit", "2s").wait(60) == 0
    kept = [cluster.env.store.get(listed.key) for listed in cluster.env.store.list(cluster.env.layout.rejected)]
    assert len(kept) == 1
    assert kept[0] is not None
    rejected = json.loads(kept[0].body)
    assert reason in rejected["why"]
    assert "\n" not in rejected["why"]
    assert rejected["body"] == body
    cluster.empty()


def test_nothing_of_a_killed_worker_runs_on(files: ProcessCluster) -> None:
    """A workload and all its processes end with the worker, even if it is killed."""
    files.submit("a", step_s=0.01)
    worker = files.worker()
    files.until("a", has_checkpoint)
    pids = _descendants(worker.pid)
    assert len(pids) == 2
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + 10
    while any(_is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.05)


def _descendants(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123 - no path is meant
        children = [int(child) for child in file.read().split()]
    return children + [below for child in children for below in _descendants(child)]


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - the same
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
