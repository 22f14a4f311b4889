"""Directory trees: links are never followed, what cannot be listed is an error, and everything can be removed."""

import os
from pathlib import Path

import pytest
from support.unprivileged import unprivileged

from lifecycle.checkpoint.tree import (
    LinkedDirectoryError,
    discard_tree,
    is_directory,
    make_directories,
    move_tree,
    open_file,
    prune,
    remove_tree,
    walk,
)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that no link may lead to."""
    made = tmp_path / "outside"
    made.mkdir()
    (made / "precious").write_bytes(b"x")
    return made


def paths(root: Path, area: str) -> list[str]:
    return sorted(path for path, _ in walk(root, area))


def nest(folder: Path, levels: int) -> None:
    """Make directories in one another, deeper than a path can be long."""
    folder.mkdir()
    at = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("deep", dir_fd=at)
        below = os.open("deep", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def test_a_walk_names_everything_and_follows_no_link(tmp_path: Path, outside: Path) -> None:
    """Directories, files and links are named, and nothing behind a link."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "a" / "link").symlink_to(outside)
    assert paths(tmp_path, "a") == ["a", "a/b", "a/b/file", "a/link"]
    assert paths(tmp_path, "none") == []


def test_a_directory_that_became_a_link_is_an_error(tmp_path: Path, outside: Path) -> None:
    """Neither a link nor a file is taken for the directory that was there."""
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(LinkedDirectoryError, match=f"{name}/ is a link or a file"):
            paths(tmp_path, name)
        with pytest.raises(LinkedDirectoryError):
            move_tree(tmp_path / name, tmp_path / "moved")
    assert (outside / "precious").exists()


def test_what_cannot_be_listed_is_an_error() -> None:
    """A directory is never passed over in silence; the error names it."""

    def part(folder: Path) -> None:
        (folder / "a" / "closed").mkdir(parents=True)
        (folder / "a" / "closed").chmod(0)
        with pytest.raises(PermissionError, match="a/closed"):
            paths(folder, "a")
        (folder / "a" / "closed").chmod(0o444)  # its names can be listed, and no more
        (folder / "a" / "closed").chmod(0o700)
        (folder / "a" / "closed" / "file").touch()
        (folder / "a" / "closed").chmod(0o444)
        with pytest.raises(PermissionError):
            paths(folder, "a")

    unprivileged(part)


def test_what_is_nested_too_deeply_is_an_error(tmp_path: Path) -> None:
    """It is not left out, and does not exhaust the descriptors or the stack."""
    nest(tmp_path / "a", 3000)
    with pytest.raises(OSError, match="nested more than"):
        paths(tmp_path, "a")
    remove_tree(tmp_path / "a")


def test_everything_can_be_removed(tmp_path: Path, outside: Path) -> None:
    """However deep it is; what a link points to stays."""
    nest(tmp_path / "a", 3000)
    (tmp_path / "a" / "link").symlink_to(outside)
    (tmp_path / "a" / "deep" / "link").symlink_to(outside / "precious")
    remove_tree(tmp_path / "a")
    remove_tree(tmp_path / "a")
    remove_tree(tmp_path / "none" / "a")
    (tmp_path / "link").symlink_to(outside)
    discard_tree(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "precious").exists()


def test_directories_that_permit_nothing_are_removed_moved_and_filled() -> None:
    """Their owner may change what they permit. A move keeps their mode."""

    def part(folder: Path) -> None:
        closed = folder / "a" / "closed"
        closed.mkdir(parents=True)
        (closed / "file").touch()
        closed.chmod(0o500)
        move_tree(closed, folder / "moved")
        assert (folder / "moved").stat().st_mode & 0o777 == 0o500
        make_directories(folder, "moved/below", replace=False)
        (folder / "moved").chmod(0)
        remove_tree(folder / "moved")
        assert not (folder / "moved").exists()

    unprivileged(part)


def test_pruning_keeps_what_is_wanted(tmp_path: Path, outside: Path) -> None:
    """By path and kind: a directory where a file is wanted goes, and so does a link where a directory is."""
    root = tmp_path / "root"
    for name in ("a/keep/file", "a/keep/stray", "a/gone/file", "a/file/below"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "a" / "linked").symlink_to(outside)
    prune(root, "a", entries={"a/keep/file", "a/file"}, directories={"a", "a/keep", "a/linked"})
    assert paths(root, "a") == ["a", "a/keep", "a/keep/file"]
    assert (outside / "precious").exists()
    prune(root, "none", entries=set(), directories=set())


def test_directories_are_made_without_following_links(tmp_path: Path, outside: Path) -> None:
    """A link in the way is replaced or refused, and what it points to is left alone."""
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        make_directories(tmp_path, "link/below", replace=False)
    assert not is_directory(tmp_path, "link")
    assert not is_directory(tmp_path, "none/below")
    make_directories(tmp_path, "link/below", replace=True)
    assert is_directory(tmp_path, "link/below")
    assert [path.name for path in outside.iterdir()] == ["precious"]


def test_opening_a_file_neither_follows_nor_waits(tmp_path: Path, outside: Path) -> None:
    """A link is refused, and a pipe without a writer is empty."""
    (tmp_path / "link").symlink_to(outside / "precious")
    with pytest.raises(OSError, match="link"):
        open_file(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    with open_file(tmp_path / "pipe") as pipe:
        assert pipe.read() == b""
