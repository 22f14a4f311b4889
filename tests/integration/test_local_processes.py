"""The embedded queue and store between real processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.local.clock import SystemClock
from adapters.local.queue import LocalQueue
from adapters.local.store import LocalStore
from lifecycle.errors import ConfigError, PermanentError, VersionConflictError
from lifecycle.ports.queue import Message

ROOT = Path(__file__).parents[2]
ROUNDS = 200


def count_up(root: Path, rounds: int) -> None:
    """Add 1 to a number, by compare-and-swap, *rounds* times."""
    store = LocalStore(root, SystemClock())
    for _ in range(rounds):
        while True:
            found = store.get("counter")
            assert found is not None
            try:
                store.put("counter", b"%d" % (int(found.body) + 1), expected=found.version)
                break
            except VersionConflictError:
                continue


def drain(path: Path, out: Path) -> None:
    """Take messages until there are none, and record them."""
    queue = LocalQueue(path, SystemClock())
    with out.open("w") as file:
        while delivery := queue.receive(hidden=timedelta(minutes=5), wait=timedelta(0)):
            file.write(f"{delivery.body}\n")
            queue.delete(delivery)


def in_processes(target: object, *arguments: tuple[object, ...]) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=args) for args in arguments]  # type: ignore[arg-type]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_no_increment_is_lost_between_processes(tmp_path: Path) -> None:
    """A conditional put is atomic between processes."""
    LocalStore(tmp_path, SystemClock()).put("counter", b"0")
    in_processes(count_up, *[(tmp_path, ROUNDS)] * 3)
    found = LocalStore(tmp_path, SystemClock()).get("counter")
    assert found is not None
    assert int(found.body) == 3 * ROUNDS


def test_no_message_goes_to_two_processes(tmp_path: Path) -> None:
    """Each message is delivered once if it is deleted in time."""
    path = tmp_path / "queue.sqlite3"
    LocalQueue(path, SystemClock()).send([Message(body=str(n), job=str(n), dedup="") for n in range(300)])
    outs = [tmp_path / f"out{number}" for number in range(3)]
    in_processes(drain, *[(path, out) for out in outs])
    got = [line for out in outs for line in out.read_text().split()]
    assert sorted(map(int, got)) == list(range(300))


def test_a_killed_process_gives_its_message_back(tmp_path: Path) -> None:
    """A killed process's message is visible again after its time, and not before."""
    path = tmp_path / "queue.sqlite3"
    queue = LocalQueue(path, SystemClock())
    queue.send([Message(body="x", job="x", dedup="")])
    script = """
        import sys, time, datetime
        from pathlib import Path
        from adapters.local.clock import SystemClock
        from adapters.local.queue import LocalQueue
        queue = LocalQueue(Path(sys.argv[1]), SystemClock())
        print(queue.receive(hidden=datetime.timedelta(seconds=3), wait=datetime.timedelta(0)).body, flush=True)
        time.sleep(1000)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"x\n"
        os.kill(holder.pid, signal.SIGKILL)
    assert queue.receive(hidden=timedelta(seconds=3), wait=timedelta(0)) is None
    delivery = queue.receive(hidden=timedelta(seconds=3), wait=timedelta(seconds=10))
    assert delivery is not None
    assert delivery.receives == 2


def test_a_process_stopped_with_the_lock_does_not_hold_others_for_ever(tmp_path: Path) -> None:
    """The others fail with a retryable error, and succeed once the process is gone."""
    script = """
        import sys, time
        from pathlib import Path
        from adapters.local.clock import SystemClock
        from adapters.local.store import LocalStore
        store = LocalStore(Path(sys.argv[1]), SystemClock())
        with store._locked("k"):
            print("locked", flush=True)
            time.sleep(1000)
    """
    store = LocalStore(tmp_path, SystemClock())
    version = store.put("k", b"one")
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        began = time.monotonic()
        with pytest.raises(Exception, match="locked by another process"):
            store.put("k", b"two", expected=version)
        assert time.monotonic() - began > 1
        holder.kill()
    store.put("k", b"two", expected=version)


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../../x", "a//b", "./a", "a/"])
def test_a_key_never_leads_out_of_the_store(tmp_path: Path, key: str) -> None:
    """A key from a message or a record cannot name a path outside the store."""
    store = LocalStore(tmp_path / "store", SystemClock())
    with pytest.raises(PermanentError):
        store.put(key, b"x")
    with pytest.raises(PermanentError):
        store.get(key)


def test_what_is_no_queue_is_said(tmp_path: Path) -> None:
    """A file that is not a SQLite database is an error, and is not changed."""
    path = tmp_path / "queue.sqlite3"
    path.write_text("something else, and long enough to be a header of something")
    with pytest.raises(ConfigError, match="cannot be used"):
        LocalQueue(path, SystemClock())
