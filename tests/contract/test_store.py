"""The contract of `lifecycle.ports.store.ObjectStore`, on every adapter."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle.errors import CorruptCheckpointError, RetryableError, VersionConflictError
from lifecycle.ports.store import ABSENT, ObjectStore, Range

BIG = 20 << 20


def test_an_object_is_read_as_written(store: ObjectStore) -> None:
    """An object is read at once with its last content and version."""
    version = store.put("a/b.json", b"one")
    found = store.get("a/b.json")
    assert found is not None
    assert (found.body, found.version) == (b"one", version)
    store.put("a/b.json", b"two")
    again = store.get("a/b.json")
    assert again is not None
    assert again.body == b"two"
    assert again.version != version


def test_absence_is_none(store: ObjectStore) -> None:
    """A missing key reads as None, even if it is a prefix or an extension of another key."""
    store.put("a/b", b"x")
    assert store.get("a") is None
    assert store.get("a/b/c") is None
    assert store.get("nowhere") is None
    assert store.get_range(Range("nowhere", 0, 1)) is None
    assert store.assemble("there", [Range("nowhere", 0, 1)]) is False
    assert store.get("there") is None


def test_absent_is_a_condition(store: ObjectStore) -> None:
    """A put with ABSENT succeeds only if the key does not exist."""
    store.put("k", b"one", expected=ABSENT)
    with pytest.raises(VersionConflictError):
        store.put("k", b"two", expected=ABSENT)
    found = store.get("k")
    assert found is not None
    assert found.body == b"one"


def test_a_version_is_a_condition(store: ObjectStore) -> None:
    """A put with a version succeeds only if that version is current."""
    first = store.put("k", b"one")
    second = store.put("k", b"two", expected=first)
    with pytest.raises(VersionConflictError):
        store.put("k", b"three", expected=first)
    store.put("k", b"three", expected=second)
    with pytest.raises(VersionConflictError):
        store.put("missing", b"x", expected=second)
    assert store.get("missing") is None


@pytest.mark.parametrize("fresh", [True, False])
def test_one_of_many_racing_puts_wins(store: ObjectStore, fresh: bool) -> None:  # noqa: FBT001 - a parameter
    """Of several conditional puts at once, exactly one succeeds, and its body is stored whole."""
    expected = ABSENT if fresh else store.put("k", b"start")
    gate = threading.Barrier(8)
    won: list[bytes] = []

    def race(body: bytes) -> None:
        gate.wait()
        try:
            store.put("k", body, expected=expected)
        except (VersionConflictError, RetryableError):
            return
        won.append(body)

    threads = [threading.Thread(target=race, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.get("k")
    assert found is not None
    assert won == [found.body]


@pytest.mark.parametrize("size", [0, 1, BIG])
def test_a_file_is_read_as_written(store: ObjectStore, tmp_path: Path, size: int) -> None:
    """A file is read back unchanged, as a whole and by ranges."""
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    path = tmp_path / "file"
    path.write_bytes(body)
    store.put_file("packs/file", path)
    found = store.get("packs/file")
    assert found is not None
    assert found.body == body
    if size:
        assert store.get_range(Range("packs/file", size // 2, size - size // 2)) == body[size // 2 :]


def test_putting_a_file_again_is_harmless(store: ObjectStore, tmp_path: Path) -> None:
    """A file may be put twice, and later changes to the file do not change the object."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    for _ in range(2):
        store.put_file("packs/file", path)
    with path.open("r+b") as file:
        file.write(b"two")
    found = store.get("packs/file")
    assert found is not None
    assert found.body == b"one"


def test_a_range_past_the_end_is_shortened(store: ObjectStore) -> None:
    """A range past the end returns the bytes that exist; the caller checks the length."""
    store.put("k", b"0123456789")
    assert store.get_range(Range("k", 8, 10)) == b"89"
    assert store.get_range(Range("k", 10, 3)) == b""


def test_a_large_body_is_read_as_written(store: ObjectStore) -> None:
    """A large body is read back unchanged, even if the caller reuses the buffer."""
    body = bytearray(range(256)) * (BIG // 256)
    store.put("packs/1", body)
    body[:] = b"x"
    found = store.get("packs/1")
    assert found is not None
    assert found.body == bytes(range(256)) * (BIG // 256)


def test_an_object_is_assembled_from_ranges_and_bytes(store: ObjectStore) -> None:
    """An assembled object does not depend on its sources afterwards, and may be assembled twice."""
    part = 5 << 20
    store.put("packs/1", b"a" * part + b"b" * part)
    parts: list[Range | Callable[[], bytes]] = [
        Range("packs/1", part, part),
        lambda: b"c" * part,
        Range("packs/1", part - 1, 2),
    ]
    for _ in range(2):
        assert store.assemble("output/x", parts) is True
    store.delete(["packs/1"])
    found = store.get("output/x")
    assert found is not None
    assert found.body == b"b" * part + b"c" * part + b"ab"


def test_an_object_with_a_missing_part_is_not_assembled(store: ObjectStore) -> None:
    """If a source is missing or a part raises, no object appears, and the error is passed on."""

    def broken() -> bytes:
        raise CorruptCheckpointError("wrong bytes, on purpose")

    store.put("packs/1", b"a" * (5 << 20))
    assert store.assemble("output/x", [Range("packs/1", 0, 5 << 20), Range("packs/2", 0, 1)]) is False
    with pytest.raises(CorruptCheckpointError):
        store.assemble("output/x", [Range("packs/1", 0, 5 << 20), broken])
    assert store.get("output/x") is None


def test_listing_is_by_prefix_in_key_order(store: ObjectStore) -> None:
    """A listing contains the keys with the prefix, in order, with their sizes; the prefix may end anywhere."""
    for key in ("b/2", "a/1", "b/10", "bb", "c/d/e"):
        store.put(key, key.encode())
    assert [listed.key for listed in store.list("")] == ["a/1", "b/10", "b/2", "bb", "c/d/e"]
    assert [listed.key for listed in store.list("b")] == ["b/10", "b/2", "bb"]
    assert [listed.key for listed in store.list("b/")] == ["b/10", "b/2"]
    assert [listed.key for listed in store.list("c/d")] == ["c/d/e"]
    assert [listed.size_bytes for listed in store.list("c")] == [5]
    assert not list(store.list("z"))


def test_deleting_can_be_repeated(store: ObjectStore) -> None:
    """Many keys are deleted at once, missing ones included, and no others."""
    keys = [f"many/{number:04d}" for number in range(30)]
    for key in keys:
        store.put(key, b"x")
    store.put("many-more", b"x")
    store.delete([*keys, "nowhere/at/all"])
    store.delete(keys)
    assert [listed.key for listed in store.list("")] == ["many-more"]


def test_age_counts_from_the_last_write(store: ObjectStore) -> None:
    """An object's age counts from its last write, by the store's clock, to about a second."""
    store.put("k", b"one")
    time.sleep(2.1)
    found = store.get("k")
    assert found is not None
    assert found.age_s is not None
    assert 1 <= found.age_s <= 10
    assert [1 <= (listed.age_s or 0) <= 10 for listed in store.list("k")] == [True]
    store.put("k", b"two")
    again = store.get("k")
    assert again is not None
    assert again.age_s is not None
    assert again.age_s < found.age_s
