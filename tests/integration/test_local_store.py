"""LocalStore with a full disk, other processes in its way, and keys that cannot be paths."""

import errno
import os
import threading
from pathlib import Path

import pytest

from adapters.local.clock import SystemClock
from adapters.local.store import ORPHAN_S, LocalStore
from adapters.memory.clock import ManualClock
from lifecycle.errors import PermanentError, RetryableError

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path, SystemClock())


def parts(root: Path) -> list[Path]:
    return list((root / "parts").iterdir())


def test_a_put_that_failed_leaves_nothing_on_the_disk(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed put leaves no file; otherwise each retry would fill a full disk further."""
    source = tmp_path / "source"
    source.write_bytes(b"x")

    def fail(_: int) -> None:
        raise FULL

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RetryableError, match="No space left"):
        store.put("k", b"x")
    with pytest.raises(RetryableError, match="No space left"):
        store.put_file("k", source)
    with pytest.raises(RetryableError, match="No space left"):
        store.assemble("k", [lambda: b"x"])
    assert store.get("k") is None
    assert parts(tmp_path) == []


def test_what_a_killed_process_left_is_swept_a_day_later(tmp_path: Path) -> None:
    """Temporary files are removed after a day, and not before: another process may be writing them."""
    store = LocalStore(tmp_path, SystemClock())
    (tmp_path / "parts" / "half").write_bytes(b"x")
    LocalStore(tmp_path, SystemClock())
    assert len(parts(tmp_path)) == 1
    LocalStore(tmp_path, ManualClock(SystemClock().now()))
    assert len(parts(tmp_path)) == 1
    later = ManualClock(SystemClock().now())
    later.advance(ORPHAN_S + 1)
    LocalStore(tmp_path, later)
    assert parts(tmp_path) == []
    store.put("k", b"x")


def test_what_was_not_stored_is_not_called_stored(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A put that cannot rename its file raises an error, and returns no version."""

    def vanish(_: Path, target: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "gone", str(target))

    monkeypatch.setattr(Path, "replace", vanish)
    with pytest.raises(RetryableError, match="failed at a/k"):
        store.put("a/k", b"x")


def test_a_folder_that_vanishes_between_two_looks_is_made_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mkdir` fails if another process removes the folder while it looks; the put tries again."""
    refusals = [1, 1, 1]
    mkdir = Path.mkdir

    def contended(path: Path, mode: int = 0o777, **how: bool) -> None:
        if refusals:
            refusals.pop()
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        mkdir(path, mode, **how)

    monkeypatch.setattr(Path, "mkdir", contended)
    store.put("a/k", b"x")
    assert refusals == []
    assert store.get("a/k") is not None


@pytest.mark.parametrize("key", ["a/b", "f", "n" * 300])
def test_a_key_that_no_path_can_be_is_refused_for_good(store: LocalStore, key: str) -> None:
    """A key below an object, in place of a folder, or too long, is a permanent error."""
    store.put("a", b"x")
    store.put("f/x", b"x")
    with pytest.raises(PermanentError, match="cannot be a path"):
        store.put(key, b"y")


def test_nobody_changes_a_key_between_a_puts_look_and_its_rename(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unconditional puts and deletes take the lock too, so a removed record cannot come back."""
    monkeypatch.setattr("adapters.local.store.LOCK_WAIT_S", 0.02)
    store.put("k", b"one")
    with store._locked("k"):
        with pytest.raises(RetryableError, match="locked"):
            store.put("k", b"two")
        with pytest.raises(RetryableError, match="locked"):
            store.delete(["k"])
    found = store.get("k")
    assert found is not None
    assert found.body == b"one"


def test_a_reader_sees_whole_objects_only(store: LocalStore) -> None:
    """A reader sees whole objects while they are replaced."""
    bodies = (b"a" * 300_000, b"b" * 200_000)
    store.put("k", bodies[0])
    done = threading.Event()

    def write() -> None:
        for number in range(100):
            store.put("k", bodies[number % 2])
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = []
    while not done.is_set():
        found = store.get("k")
        seen.append(found is not None and found.body in bodies)
    thread.join()
    assert seen
    assert all(seen)


def test_a_folder_that_empties_and_fills_again_harms_nobody(store: LocalStore) -> None:
    """A delete may remove the folder that another process's put has just created."""
    errors: list[Exception] = []

    def come_and_go(name: str) -> None:
        try:
            for _ in range(200):
                store.put(f"deep/er/{name}", b"x")
                assert store.get(f"deep/er/{name}") is not None
                list(store.list("deep/"))
                store.delete([f"deep/er/{name}"])
        except Exception as error:  # noqa: BLE001 - the test shows any error
            errors.append(error)

    threads = [threading.Thread(target=come_and_go, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list(store.list("")) == []
