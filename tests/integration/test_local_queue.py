"""LocalQueue: several processes on one file, from its creation on."""

import gc
import multiprocessing
import os
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from functools import partial
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from adapters.local.clock import SystemClock
from adapters.local.queue import LocalQueue
from adapters.memory.clock import ManualClock
from lifecycle.errors import ConfigError, RetryableError
from lifecycle.ports.queue import Delivery, Message

MINUTE = timedelta(minutes=1)
NOW = timedelta(0)


def message(name: str) -> Message:
    return Message(body=name, job=name, dedup=name)


def take(queue: LocalQueue) -> Delivery:
    delivery = queue.receive(hidden=MINUTE, wait=NOW)
    assert delivery is not None
    return delivery


def open_together(paths: list[Path], gate: Barrier, answers: "SimpleQueue[str]") -> None:
    """Open each file at the same moment as the other processes."""
    for path in paths:
        gate.wait()
        try:
            LocalQueue(path, SystemClock()).send([message(str(os.getpid()))])
        except Exception as error:  # noqa: BLE001 - the test shows any error
            answers.put(repr(error))
    answers.put("")


def test_workers_that_start_together_all_find_a_queue(tmp_path: Path) -> None:
    """Workers that start together can all create the file, and none fails."""
    context = multiprocessing.get_context("spawn")
    paths = [tmp_path / f"{number}.sqlite3" for number in range(40)]
    gate, answers = context.Barrier(4), context.SimpleQueue()
    processes = [context.Process(target=open_together, args=(paths, gate, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    said: list[str] = []
    while said.count("") < len(processes):
        said.append(answers.get())
    for process in processes:
        process.join()
    assert set(said) == {""}
    assert {LocalQueue(path, SystemClock()).depth().available for path in paths} == {4}


def test_a_file_that_others_are_just_opening_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite answers "locked" at once, ignoring its busy time-out, if two processes change a new file to WAL."""
    refusals = [1, 1, 1]

    class Contended(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if "journal_mode" in sql and refusals:
                refusals.pop()
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return super().execute(sql, *rest)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Contended))
    queue = LocalQueue(tmp_path / "queue.sqlite3", ManualClock())
    assert refusals == []
    assert queue.depth().available == 0


def fork_and_use(path: Path) -> None:
    """Use a queue before a fork, in the child and in the parent; the process has one thread."""
    queue = LocalQueue(path, SystemClock())
    queue.send([message("a")])
    with queue._transaction() as parents:
        pass
    child = os.fork()
    if child == 0:
        with queue._transaction() as other:
            pass
        os._exit(0 if other is not parents and queue.depth().available == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with queue._transaction() as again:
        assert again is parents


def test_a_forked_child_has_a_connection_of_its_own(tmp_path: Path) -> None:
    """SQLite's file locks do not survive a fork."""
    process = multiprocessing.get_context("spawn").Process(target=fork_and_use, args=(tmp_path / "queue.sqlite3",))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_queue_closes_its_connections_when_it_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that other threads opened are closed too."""
    opened: list[sqlite3.Connection] = []

    class Remembered(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            opened.append(self)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Remembered))
    queue = LocalQueue(tmp_path / "queue.sqlite3", ManualClock())
    with queue._transaction():
        pass
    busy = queue._connections.borrow()
    busy.__enter__()
    thread = threading.Thread(target=queue.depth)
    thread.start()
    thread.join()
    busy.__exit__(None, None, None)
    assert len(opened) == 2
    del queue, thread
    gc.collect()
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_threads_share_the_file_and_no_connection(tmp_path: Path) -> None:
    """The heartbeat's thread extends a delivery that the main thread received."""
    clock = ManualClock()
    queue = LocalQueue(tmp_path / "queue.sqlite3", clock)
    queue.send([message("a")])
    delivery = take(queue)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(queue.extend(delivery, hidden=2 * MINUTE)))
    thread.start()
    thread.join()
    assert answers == [True]
    clock.advance(61)
    assert queue.receive(hidden=MINUTE, wait=NOW) is None


def test_a_receipt_that_another_has_followed_is_void(tmp_path: Path) -> None:
    """An old receipt is refused and has no effect."""
    clock = ManualClock()
    queue = LocalQueue(tmp_path / "queue.sqlite3", clock)
    queue.send([message("a")])
    stale = take(queue)
    clock.advance(61)
    fresh = take(queue)
    assert queue.extend(stale, hidden=MINUTE) is False
    queue.delete(stale)
    queue.release(stale, delay=NOW)
    assert queue.receive(hidden=MINUTE, wait=NOW) is None
    assert queue.extend(fresh, hidden=MINUTE) is True


def test_a_delivery_outlives_the_process_that_opened_the_file(tmp_path: Path) -> None:
    """Sent, received and dead-lettered messages are in the file."""
    path = tmp_path / "queue.sqlite3"
    clock = ManualClock()
    first = LocalQueue(path, clock)
    first.send([message("a"), message("b")])
    delivery = take(first)
    second = LocalQueue(path, clock)
    assert second.extend(delivery, hidden=MINUTE) is True
    assert second.dead_letter(delivery, reason="no job") is True
    depth = second.depth()
    assert (depth.available, depth.in_flight) == (1, 1)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT body, reason FROM dead").fetchall() == [("a", "no job")]


def test_a_failed_transaction_does_not_stand_in_the_way_of_the_next(tmp_path: Path) -> None:
    """A failed transaction is rolled back and raises a retryable error."""
    queue = LocalQueue(tmp_path / "queue.sqlite3", SystemClock())
    broken = [("x", "x", 0.0), (None, "x", 0.0)]
    with pytest.raises(RetryableError, match="NOT NULL"), queue._transaction() as connection:
        connection.executemany("INSERT INTO messages (body, job, visible_at) VALUES (?, ?, ?)", broken)
    assert queue.depth().available == 0
    queue.send([message("a")])
    assert queue.depth().available == 1


def test_a_file_that_may_not_be_written_is_a_wrong_setting(tmp_path: Path) -> None:
    """A file without write permission is a ConfigError, because a retry would not help."""
    queue = LocalQueue(tmp_path / "queue.sqlite3", SystemClock())
    with queue._transaction() as connection:
        connection.execute("PRAGMA query_only = ON")
    with pytest.raises(ConfigError, match="readonly"):
        queue.send([message("a")])
