"""Directory trees: links are never followed, unreadable directories are errors, and any tree can be removed."""

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
    """Return a directory that no link may lead to."""
    made = tmp_path / "outside"
    made.mkdir()
    (made / "precious").write_bytes(b"x")
    return made


def paths(root: Path, area: str) -> list[str]:
    return sorted(path for path, _ in walk(root, area))


def nest(folder: Path, levels: int) -> None:
    """Create nested directories, deeper than the longest path."""
    folder.mkdir()
    at = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("deep", dir_fd=at)
        below = os.open("deep", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def test_a_walk_names_everything_and_follows_no_link(tmp_path: Path, outside: Path) -> None:
    """A walk yields directories, files and links, and nothing behind a link."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "a" / "link").symlink_to(outside)
    assert paths(tmp_path, "a") == ["a", "a/b", "a/b/file", "a/link"]
    assert paths(tmp_path, "none") == []


def test_a_directory_that_became_a_link_is_an_error(tmp_path: Path, outside: Path) -> None:
    """A directory that was replaced by a link or a file is an error."""
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(LinkedDirectoryError, match=f"{name}/ is a link or a file"):
            paths(tmp_path, name)
        with pytest.raises(LinkedDirectoryError):
            move_tree(tmp_path / name, tmp_path / "moved")
    assert (outside / "precious").exists()


def test_an_unreadable_directory_is_an_error() -> None:
    """A directory that cannot be listed is an error that names it."""

    def part(folder: Path) -> None:
        (folder / "a" / "closed").mkdir(parents=True)
        (folder / "a" / "closed").chmod(0)
        with pytest.raises(PermissionError, match="a/closed"):
            paths(folder, "a")
        (folder / "a" / "closed").chmod(0o444)  # readable but not searchable
        (folder / "a" / "closed").chmod(0o700)
        (folder / "a" / "closed" / "file").touch()
        (folder / "a" / "closed").chmod(0o444)
        with pytest.raises(PermissionError):
            paths(folder, "a")

    unprivileged(part)


def test_too_deep_nesting_is_an_error(tmp_path: Path) -> None:
    """Too deep a nesting is an error, and exhausts neither descriptors nor stack."""
    nest(tmp_path / "a", 3000)
    with pytest.raises(OSError, match="nested more than"):
        paths(tmp_path, "a")
    remove_tree(tmp_path / "a")


def test_everything_can_be_removed(tmp_path: Path, outside: Path) -> None:
    """A tree of any depth is removed, and the targets of its links stay."""
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


def test_directories_without_permissions_are_handled() -> None:
    """Directories without permissions are removed, moved and filled; a move keeps their mode."""

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


def test_pruning_keeps_wanted_entries(tmp_path: Path, outside: Path) -> None:
    """Pruning keeps entries by path and kind, and removes links and directories that stand in for files."""
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
    """A link in the path is replaced or refused, and its target is not changed."""
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        make_directories(tmp_path, "link/below", replace=False)
    assert not is_directory(tmp_path, "link")
    assert not is_directory(tmp_path, "none/below")
    make_directories(tmp_path, "link/below", replace=True)
    assert is_directory(tmp_path, "link/below")
    assert [path.name for path in outside.iterdir()] == ["precious"]


def test_opening_a_file_neither_follows_nor_waits(tmp_path: Path, outside: Path) -> None:
    """Opening refuses a link, and reads a pipe without a writer as empty."""
    (tmp_path / "link").symlink_to(outside / "precious")
    with pytest.raises(OSError, match="link"):
        open_file(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    with open_file(tmp_path / "pipe") as pipe:
        assert pipe.read() == b""
