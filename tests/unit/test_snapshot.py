"""Snapshots of programs that announce nothing: captured at one moment, cheap, and never torn."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from lifecycle.checkpoint.capture import capture_files, capture_output
from lifecycle.checkpoint.manifest import Quality
from lifecycle.checkpoint.patterns import matches_any
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.survey import scan
from lifecycle.errors import TornSnapshotError
from lifecycle.ports.runner import JobDirs, Workload

WORKLOAD = Workload("w", ("true",), growing=("output/*.log", "checkpoint/*.log"), quiet=timedelta(seconds=1))


@pytest.fixture
def dirs(tmp_path: Path) -> JobDirs:
    made = JobDirs(tmp_path)
    for path in (made.checkpoint, made.output):
        path.mkdir()
    (made.checkpoint / "state").write_bytes(b"one")
    (made.output / "run.log").write_bytes(b"line\n")
    return made


def take(dirs: JobDirs, workload: Workload = WORKLOAD, in_place: set[str] | None = None) -> Snapshot:
    taken = capture_files(
        scan(dirs, workload), workload, Quality.QUIET, seq=1, step=None, dirs=dirs, in_place=in_place or set()
    )
    assert taken is not None
    return taken


def contents(taken: Snapshot) -> dict[str, bytes]:
    return {file.path: file.source.read_bytes()[: file.size] for file in taken.files}


@pytest.mark.parametrize(
    ("path", "pattern", "meant"),
    [
        ("checkpoint/a", "checkpoint/**", True),
        ("checkpoint/a/b", "checkpoint/**", True),
        ("checkpoint/a/b", "checkpoint/*", False),
        ("checkpoint/a/b.cpt", "checkpoint/**/*.cpt", True),
        ("checkpoint/b.cpt", "checkpoint/**/*.cpt", True),
        ("checkpoint/b.cpt", "checkpoint/?.cpt", True),
        ("checkpoint/bb.cpt", "checkpoint/?.cpt", False),
        ("output/b+c.log", "output/b+c.log", True),
        ("output/bbc.log", "output/b+c.log", False),
    ],
)
def test_patterns_mean_paths(path: str, pattern: str, meant: bool) -> None:  # noqa: FBT001 - a parameter
    """Patterns work as in a shell."""
    assert matches_any(path, ("no", pattern)) is meant


def test_a_file_replaced_by_renaming_is_linked_and_stays_as_it_was(dirs: JobDirs) -> None:
    """Nothing is copied, and later changes by the program do not reach the snapshot."""
    taken = take(dirs)
    assert (taken.directory / "checkpoint/state").samefile(dirs.checkpoint / "state")
    (dirs.checkpoint / "new").write_bytes(b"two")
    (dirs.checkpoint / "new").replace(dirs.checkpoint / "state")
    taken.ensure_consistent()
    assert contents(taken)["checkpoint/state"] == b"one"


def test_a_file_changed_in_place_is_found_out_and_copied_from_then_on(dirs: JobDirs) -> None:
    """The error for the torn snapshot names the file; the next snapshot copies it and is consistent."""
    taken = take(dirs)
    (dirs.checkpoint / "state").write_bytes(b"two")
    with pytest.raises(TornSnapshotError, match="checkpoint/state: it was written to") as caught:
        taken.ensure_consistent()
    copied = take(dirs, in_place=set(caught.value.paths))
    (dirs.checkpoint / "state").write_bytes(b"three")
    copied.ensure_consistent()
    assert contents(copied)["checkpoint/state"] == b"two"


def test_a_torn_snapshot_names_every_file_that_is_changed_in_place(dirs: JobDirs) -> None:
    """All changed files are named at once, so that the next snapshot copies them all."""
    names = [f"part{number}" for number in range(4)]
    for name in names:
        (dirs.checkpoint / name).write_bytes(b"one")
    taken = take(dirs)
    for name in names[1:]:
        (dirs.checkpoint / name).write_bytes(b"two")
    with pytest.raises(TornSnapshotError, match="part1: it was written to while it was saved, and 2 more") as caught:
        taken.ensure_consistent()
    assert caught.value.paths == tuple(f"checkpoint/{name}" for name in names[1:])


def test_what_only_grows_is_taken_to_its_length(dirs: JobDirs) -> None:
    """A growing file is captured up to its length, in either folder. Growth is harmless; shrinking is an error."""
    log = dirs.output / "run.log"
    taken = take(dirs)
    with log.open("ab") as file:
        file.write(b"more\n")
    taken.ensure_consistent()
    assert contents(taken)["output/run.log"] == b"line\n"
    os.truncate(log, 2)
    with pytest.raises(TornSnapshotError, match=r"output/run.log: it became shorter"):
        taken.ensure_consistent()


def test_files_that_do_not_hold_still_make_no_snapshot(dirs: JobDirs) -> None:
    """If files have changed since the scan, no snapshot is made."""
    seen = scan(dirs, WORKLOAD)
    (dirs.checkpoint / "state").write_bytes(b"other")
    assert capture_files(seen, WORKLOAD, Quality.QUIET, seq=1, step=None, dirs=dirs, in_place=set()) is None
    assert not any(dirs.snapshots.iterdir())
    (dirs.checkpoint / "state").unlink()
    assert capture_files(seen, WORKLOAD, Quality.QUIET, seq=2, step=None, dirs=dirs, in_place=set()) is None


def test_only_what_is_meant_is_taken(dirs: JobDirs) -> None:
    """Files that match no pattern, links and folders are not captured; modes are kept."""
    (dirs.checkpoint / "state.tmp").write_bytes(b"half")
    (dirs.checkpoint / "link").symlink_to("/etc/passwd")
    (dirs.checkpoint / "state").chmod(0o600)
    taken = take(dirs, evolve(WORKLOAD, checkpoint=("checkpoint/state",)))
    assert [file.path for file in taken.files] == ["checkpoint/state", "output/run.log"]
    assert taken.files[0].mode & 0o777 == 0o600
    assert taken.bytes == 3 + 5


def test_where_links_are_refused_files_are_copied(dirs: JobDirs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are copied on a file system without hard links."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    taken = take(dirs)
    assert contents(taken)["checkpoint/state"] == b"one"
    assert not (taken.directory / "checkpoint/state").samefile(dirs.checkpoint / "state")


def test_a_program_that_removed_its_output_folder_has_no_outputs(dirs: JobDirs) -> None:
    """A missing output folder means no outputs; it is not an error of the disk."""
    shutil.rmtree(dirs.output)
    taken = capture_output(seq=1, step=None, dirs=dirs)
    assert taken.files == ()
    taken.ensure_consistent()


@pytest.mark.parametrize(
    ("path", "pattern", "meant"),
    [
        ("checkpoint/.tmp.png", "checkpoint/*", False),
        ("checkpoint/.tmp.png", "checkpoint/*.png", False),
        ("checkpoint/.tmp.png", "checkpoint/?tmp.png", False),
        ("checkpoint/.tmp.png", "checkpoint/.*.png", True),
        ("checkpoint/a.png", "checkpoint/a*png", True),
        ("checkpoint/a/.b.png", "checkpoint/**/*.png", False),
        ("checkpoint/.a/b.png", "checkpoint/**/*.png", True),
        ("checkpoint/.metadata", "checkpoint/**", True),
        ("checkpoint/array/.zarray", "checkpoint/**", True),
    ],
)
def test_a_star_does_not_match_a_leading_dot(path: str, pattern: str, meant: bool) -> None:  # noqa: FBT001 - a parameter
    """As in a shell. But `**` means everything below: the state of some programs has hidden parts."""
    assert matches_any(path, (pattern,)) is meant


def test_a_file_that_took_the_place_of_another_is_found_out(dirs: JobDirs) -> None:
    """Even one of the same size and time."""
    taken = take(dirs)
    placed, other = taken.directory / "checkpoint/state", dirs.root / "other"
    other.write_bytes(b"two")
    os.utime(other, ns=(taken.files[0].mtime_ns, taken.files[0].mtime_ns))
    other.replace(placed)
    with pytest.raises(TornSnapshotError, match="another file took its place"):
        taken.ensure_consistent()
