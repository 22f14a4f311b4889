"""What Holdfast writes on this machine can be read by its owner only, whatever the umask."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from adapters.local.private_files import make_private_folder
from client.commands import submit
from client.config.composition import open_environment
from client.config.settings import from_environ
from client.config.worker_files import own_directory, touch
from client.operations.submission import JobRequest
from client.records.database import Database

UMASKS: Final = [0o000, 0o022, 0o277]


@pytest.fixture(params=UMASKS, ids=oct)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def others(root: Path) -> dict[str, str]:
    """Return the modes that are neither 0700 nor 0600, of *root* and everything below it."""
    found = [root, *root.rglob("*")]
    assert len(found) > 1
    modes = {str(path): oct(path.stat().st_mode & 0o777) for path in found}
    return {path: mode for path, mode in modes.items() if mode != ("0o700" if Path(path).is_dir() else "0o600")}


@pytest.mark.usefixtures("_umask")
def test_the_local_queue_and_store_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs, inputs, results and messages in `.holdfast` are the owner's, SQLite's own files included."""
    monkeypatch.chdir(tmp_path)
    env = open_environment(from_environ({}, None))
    submit.run(env, [JobRequest("job1", "series-sum", {})], as_json=True)
    source = tmp_path / "source"
    source.write_bytes(b"x")
    source.chmod(0o644)
    env.store.put_file("job1/input/deep/x", source)
    env.store.assemble("job1/output/y", [lambda: b"y"])
    with own_directory(env.settings.work_dir, "node"):
        touch(env.settings.work_dir / "alive")
        assert others(tmp_path / ".holdfast") == {}


@pytest.mark.usefixtures("_umask")
def test_the_record_index_is_private(tmp_path: Path) -> None:
    """The local copy of the records is the owner's, too."""
    Database(tmp_path / "cache" / "holdfast" / "x.sqlite3").close()
    assert others(tmp_path / "cache") == {}


def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder and the queue that an earlier version created are made private when they are used."""
    monkeypatch.chdir(tmp_path)
    open_environment(from_environ({}, None))
    home = tmp_path / ".holdfast"
    home.chmod(0o755)
    (home / "bucket").chmod(0o755)
    (home / "queue.sqlite3").chmod(0o644)
    open_environment(from_environ({}, None))
    modes = [oct(path.stat().st_mode & 0o777) for path in (home, home / "bucket", home / "queue.sqlite3")]
    assert modes == ["0o700", "0o700", "0o600"]


def test_a_folder_that_others_share_keeps_its_mode(tmp_path: Path) -> None:
    """HOLDFAST_HOME may be a folder that exists and has other uses; only what Holdfast creates there is private."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    open_environment(from_environ({"HOLDFAST_HOME": str(shared)}, None))
    assert oct(shared.stat().st_mode & 0o777) == "0o755"
    assert others(shared / "bucket") == {}


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path) -> None:
    """A name that is taken by a file is reported, and not taken for the folder."""
    (tmp_path / "a").write_text("")
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(OSError, match=r"exists|Not a directory"):
            make_private_folder(path)


def test_processes_may_create_a_folder_at_once(tmp_path: Path) -> None:
    """Processes that start together do not disturb one another."""
    script = f"from client.config.composition import *; from client.config.settings import *; open_environment(from_environ({{'HOLDFAST_HOME': {str(tmp_path / 'a' / 'b')!r}}}, None))"  # noqa: E501
    started = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [each.wait() for each in started] == [0] * 4
