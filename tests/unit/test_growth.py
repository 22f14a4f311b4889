"""Growing files: what was saved before must not change, or the file is written in place after all."""

import json
from pathlib import Path

import pytest
from attrs import evolve
from support.checkpoint_fixture import CheckpointFixture
from support.cluster import LAYOUT, Cluster

from adapters.memory.runner import FakeWorkload, trace_bytes
from lifecycle.checkpoint.restore import fetch_manifest
from lifecycle.errors import RewrittenFileError
from lifecycle.ports.runner import Workload

LOG = "checkpoint/run.dcd"
CHUNK = 16 << 10


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointFixture:
    made = CheckpointFixture(tmp_path)
    made.workload = Workload("w", ("true",), growing=(LOG,))
    made.write("state", b"x")
    return made


def rewrite(checkpoints: CheckpointFixture, at: int) -> None:
    """Change a byte of the log in place, and append to it."""
    with (checkpoints.dirs.root / LOG).open("r+b") as file:
        file.seek(at)
        file.write(b"!")
        file.seek(0, 2)
        file.write(checkpoints.noise(100))


@pytest.mark.parametrize("size", [100, CHUNK, 3 * CHUNK + 5])
def test_a_header_that_is_written_again_is_found(checkpoints: CheckpointFixture, size: int) -> None:
    """A change in the first or in the last chunk of the known part shows that the file does not only grow."""
    checkpoints.write("run.dcd", checkpoints.noise(size))
    assert checkpoints.save()
    for at in (0, size - 1):
        rewrite(checkpoints, at)
        with pytest.raises(RewrittenFileError, match=r"run\.dcd") as caught:
            checkpoints.save()
        assert caught.value.paths == (LOG,)


@pytest.mark.parametrize("size", [100, CHUNK, 3 * CHUNK + 5])
def test_a_file_that_only_grows_is_saved(checkpoints: CheckpointFixture, size: int) -> None:
    """Appending changes nothing that was saved; nor does cutting the file back, as a resumed program may."""
    checkpoints.write("run.dcd", checkpoints.noise(size))
    assert checkpoints.save()
    with (checkpoints.dirs.root / LOG).open("ab") as file:
        file.write(checkpoints.noise(CHUNK + 1))
    assert checkpoints.save()
    with (checkpoints.dirs.root / LOG).open("r+b") as file:
        file.truncate(size // 2)
    assert checkpoints.save()


def test_a_resumed_program_may_write_the_end_again(checkpoints: CheckpointFixture) -> None:
    """After a resume the end of a log may differ, for example in its times; its beginning may not."""
    size = 3 * CHUNK
    checkpoints.write("run.dcd", checkpoints.noise(size))
    assert checkpoints.save()
    assert checkpoints.base is not None
    checkpoints.base = evolve(checkpoints.base, manifest=evolve(checkpoints.base.manifest, epoch=0))
    rewrite(checkpoints, size - 1)
    assert checkpoints.save()
    assert checkpoints.base is not None
    checkpoints.base = evolve(checkpoints.base, manifest=evolve(checkpoints.base.manifest, epoch=0))
    rewrite(checkpoints, 0)
    with pytest.raises(RewrittenFileError):
        checkpoints.save()


def test_a_file_with_a_header_becomes_part_of_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is treated as written in place from then on, in later attempts too, and the log says so once."""
    cluster = Cluster(tmp_path)

    def count(self: FakeWorkload) -> None:
        path = self._launch.dirs.checkpoint / "run.dcd"
        path.write_bytes(self._step.to_bytes(8) + trace_bytes(self._step))

    real = FakeWorkload._overwrite

    def overwrite(self: FakeWorkload, folder: Path) -> None:
        count(self)
        real(self, folder)

    monkeypatch.setattr(FakeWorkload, "_overwrite", overwrite)
    cluster.submit("a", silent=True)
    growing = {"growing": (LOG,)}
    cluster.worker(script=lambda _, step: 3 if step == 220 else None, max_jobs=1, workload=growing).run()
    stored = cluster.memory.get(LAYOUT.job("a").log(1))
    assert stored is not None
    events = [json.loads(line) for line in stored.body.splitlines()]
    assert [event["files"] for event in events if event["event"] == "not_growing"] == [[LOG]]
    checkpoint = cluster.record("a").checkpoint
    assert checkpoint is not None
    assert checkpoint.seq > 2
    assert LOG in fetch_manifest(cluster.memory, checkpoint).in_place
    cluster.worker(script=lambda _, step: 3 if step == 290 else None, max_jobs=1, workload=growing).run()
    stored = cluster.memory.get(LAYOUT.job("a").log(2))
    assert stored is not None
    assert b"not_growing" not in stored.body
