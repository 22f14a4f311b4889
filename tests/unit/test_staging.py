"""Staging: a workload starts with all of its input, its checkpoint, and nothing else."""

import json
from collections.abc import Callable
from datetime import timedelta
from hashlib import md5
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from attrs import evolve
from support.any_port import AnyPort
from support.cluster import Cluster
from support.fault_injection import FaultInjection, unless_dead

from lifecycle.ports.queue import Message
from lifecycle.ports.runner import Launch
from lifecycle.ports.store import ObjectStore, Range
from lifecycle.states import State

A_WHILE = timedelta(seconds=100)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def at_first_step(look: Callable[[Launch], None]) -> Callable[[Launch, int], int | None]:
    """Return a script that calls *look* at the first step of each attempt."""
    seen: set[int] = set()

    def script(launch: Launch, _: int) -> int | None:
        if launch.epoch not in seen:
            seen.add(launch.epoch)
            look(launch)
        return None

    return script


def below(folder: Path) -> dict[str, bytes]:
    """Return the files below *folder* with their content."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- the input ----


def test_all_input_is_fetched(cluster: Cluster) -> None:
    """All input files are fetched, with their folders, empty files included."""
    keys = cluster.submit("a")
    more = {"deep/er/down.bin": b"x" * 1000, "empty": b"", "more.txt": b"more"}
    for name, content in more.items():
        cluster.memory.put(f"{keys.input}{name}", content)
    found: dict[str, bytes] = {}
    cluster.worker(script=at_first_step(lambda launch: found.update(below(launch.dirs.input)))).run()
    assert found == {"input.txt": b"1\n300\n", **more}
    assert cluster.output("a") == "45150"


@pytest.mark.parametrize("name", ["../evil", "sub/"], ids=["out of the folder", "a folder that is a file"])
def test_an_input_key_that_is_not_a_file_name_fails_the_job(cluster: Cluster, name: str) -> None:
    """An input key that would leave the input directory fails the job, and is written nowhere."""
    keys = cluster.submit("a")
    cluster.memory.put(f"{keys.input}{name}", b"evil")
    cluster.worker().run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert "has a name that would leave its directory" in (record.error or "")
    assert b"evil" not in below(cluster.root).values()


def test_input_names_may_have_any_letters(cluster: Cluster) -> None:
    """Any name that an output may have is accepted for an input."""
    keys = cluster.submit("a")
    names = ["é.txt", "e\u0301.txt", "数据/x y%.bin", "n" * 255]
    for name in names:
        cluster.memory.put(f"{keys.input}{name}", name.encode())
    found: dict[str, bytes] = {}
    cluster.worker(script=at_first_step(lambda launch: found.update(below(launch.dirs.input)))).run()
    assert found == {"input.txt": b"1\n300\n", **{name: name.encode() for name in names}}


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["data", "data/part-0"], "both a file 'data' and files below it"),
        (["data", "data.txt", "data/x/y"], "both a file 'data' and files below it"),
        (["n" * 256], "a name of more than 255 bytes"),
        (["x/" + "é" * 128 + "/y"], "a name of more than 255 bytes"),
    ],
)
def test_an_input_name_that_is_too_long_fails_only_its_job(cluster: Cluster, names: list[str], reason: str) -> None:
    """The job fails at once with the reason, and the worker continues with the next."""
    keys = cluster.submit("a")
    for name in names:
        cluster.memory.put(f"{keys.input}{name}", b"x")
    cluster.submit("b")
    assert cluster.worker().run() == 0
    record = cluster.record("a")
    assert (record.state, record.attempts[-1].outcome) == (State.FAILED, "invalid")
    assert len(record.attempts) == 1
    assert reason in (record.error or "")
    assert cluster.record("b").state is State.COMPLETED


class WrongBytes:
    """A store that flips a byte of the input in some of its transfers."""

    def __init__(self, store: ObjectStore, times: int) -> None:
        self._store = store
        self.left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get_range(self, wanted: Range) -> bytes | None:
        content = self._store.get_range(wanted)
        if content and len(content) > 2 and "/input/" in wanted.key and self.left:
            self.left -= 1
            return content[:2] + bytes([content[2] ^ 1]) + content[3:]
        return content


@pytest.mark.parametrize("range_bytes", [1 << 20, 4], ids=["one piece", "ranges"])
def test_input_bytes_are_verified(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, range_bytes: int) -> None:
    """A byte that was changed in transfer is detected by the ETag, and the file is fetched again."""
    monkeypatch.setattr("lifecycle.attempt.input_files.RANGE_BYTES", range_bytes)
    cluster.submit("a")
    store = WrongBytes(cluster.memory, 1)
    cluster.worker(store=cast("ObjectStore", store)).run()
    assert store.left == 0
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["completed"]
    assert cluster.output("a") == "45150"


@pytest.mark.parametrize("range_bytes", [1 << 20, 4], ids=["one piece", "ranges"])
def test_an_input_with_wrong_bytes_starts_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, range_bytes: int
) -> None:
    """A job whose input stays wrong is released for a retry; it neither runs nor fails."""
    monkeypatch.setattr("lifecycle.attempt.input_files.RANGE_BYTES", range_bytes)
    keys = cluster.submit("a")
    cluster.worker(store=cast("ObjectStore", WrongBytes(cluster.memory, 100)), max_jobs=1).run()
    record = cluster.record("a")
    assert (record.state, record.attempts[0].outcome, record.failures) == (State.RELEASED, "unreadable", 0)
    assert f"the input {keys.input}input.txt has wrong bytes" in (record.error or "")
    assert record.attempts[0].useful_s == 0


def test_an_etag_that_is_not_an_md5_is_ignored(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the record's own ETag is not an MD5, as on S3 with KMS keys, the input is used unverified."""
    cluster.submit("a")
    put, objects = cluster.memory.put, cluster.memory._objects

    def encrypt(key: str) -> str:
        version = f'"{md5(objects[key].body + b"key", usedforsecurity=False).hexdigest()}"'
        objects[key] = evolve(objects[key], version=version)
        return version

    def put_encrypted(key: str, body: bytes, **condition: Any) -> str:
        put(key, body, **condition)
        return encrypt(key)

    for key in objects:
        encrypt(key)
    monkeypatch.setattr(cluster.memory, "put", put_encrypted)
    cluster.worker().run()
    assert cluster.output("a") == "45150"


def test_an_input_larger_than_the_disk_is_left_to_another_node(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known from the listing, before anything is fetched; the job is released, and the worker carries on."""
    keys = cluster.submit("a")
    cluster.submit("b", "1\n10\n")
    fetched: list[str] = []

    class Huge(AnyPort):
        def __getattr__(self, name: str) -> Any:
            return getattr(cluster.memory, name)

        def list(self, prefix: str) -> Any:
            for listed in cluster.memory.list(prefix):
                yield evolve(listed, size_bytes=80 * 10**9) if listed.key.startswith(keys.input) else listed

        def get_range(self, wanted: Range) -> bytes | None:
            fetched.append(wanted.key)
            return cluster.memory.get_range(wanted)

    usage = SimpleNamespace(free=24 * 10**9)
    monkeypatch.setattr("lifecycle.attempt.input_files.disk_usage", lambda _: usage)
    assert cluster.worker(store=Huge(), max_jobs=3).run() == 0
    record = cluster.record("a")
    assert (record.state, record.failures) == (State.RELEASED, 0)
    assert {attempt.outcome for attempt in record.attempts} == {"misfit"}
    assert "lacks 80.0 GB of free disk for its input" in (record.error or "")
    assert not any(key.startswith(keys.input) for key in fetched)
    assert cluster.record("b").state is State.COMPLETED
    usage.free = 10**12
    cluster.worker(max_jobs=1).run()
    assert cluster.record("a").state is State.COMPLETED


def test_a_workload_may_start_without_input(cluster: Cluster) -> None:
    """A workload that needs no input starts without it, and may still reject the job itself."""
    cluster.submit("a", None)
    cluster.worker(workload={"needs_input": False}).run()
    assert cluster.record("a").error == "input.txt: is not two whole numbers"


def test_draining_stops_staging(cluster: Cluster) -> None:
    """A drain during staging releases the job before it runs."""
    keys = cluster.submit("a")
    for number in range(20):
        cluster.memory.put(f"{keys.input}{number}", b"x")

    def slow(name: str, *_: object, **__: object) -> None:
        if name == "get_range":
            cluster.clock.sleep(40)

    worker = cluster.worker(store=FaultInjection(cluster.memory, before=slow))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(50)
    worker.drain()
    assert thread.join(100)
    record = cluster.record("a")
    assert (record.state, record.attempts[0].outcome) == (State.RELEASED, "drained")
    assert record.attempts[0].useful_s == 0


# ---- what an earlier attempt left on this node ----


def test_nothing_of_an_earlier_attempt_is_left(cluster: Cluster) -> None:
    """A new attempt finds no stray files, console output or uncommitted snapshots of an earlier one."""
    cluster.submit("a")
    strays: list[Path] = []
    temporary: list[Path] = []

    def look(launch: Launch) -> None:
        dirs = launch.dirs
        folders = (dirs.input, dirs.control, dirs.console, dirs.snapshots, dirs.temporary)
        strays.extend(path for folder in folders for path in folder.rglob("stray*"))
        temporary.append(dirs.temporary)
        for folder in folders:
            (folder / f"stray{launch.epoch}").mkdir()

    cluster.worker(script=at_first_step(look), max_running_time=A_WHILE).run()
    assert len(cluster.record("a").attempts) == 3
    assert strays == []
    assert not temporary[-1].exists()


def test_uncommitted_files_are_removed(cluster: Cluster) -> None:
    """The next attempt on the same node starts without files that were never committed."""
    cluster.submit("a", silent=True)
    found: list[dict[str, bytes]] = []

    def fail(launch: Launch, step: int) -> int | None:
        if step == 1:
            found.append(below(launch.dirs.checkpoint) | below(launch.dirs.output))
            (launch.dirs.output / "partial.txt").write_text("half")
        return 3 if launch.epoch == 1 and step == 30 else None

    cluster.worker(script=fail).run()
    assert found == [{}, {}]
    assert cluster.output("a") == "45150"
    assert [attempt.resumed_step for attempt in cluster.record("a").attempts] == [None, None]


def test_a_checkpoint_on_the_node_is_not_fetched(cluster: Cluster) -> None:
    """The next attempt on the same node restores from the last snapshot, and fetches no pack."""
    cluster.submit("a")
    fetched: list[object] = []

    def look(name: str, *args: object, **_: object) -> None:
        if name == "get_range" and "/packs/" in str(args[0]):
            fetched.append(args[0])

    store = FaultInjection(cluster.memory, before=look)
    cluster.worker(store=store, max_running_time=A_WHILE).run()
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["timeout"] * 2 + ["completed"]
    assert [
        key for key in fetched if "/e3/" not in str(key)
    ] == []  # the packs of attempt 3 are read to publish the outputs


# ---- start ----


@pytest.mark.parametrize(("params", "seconds"), [({}, 100), ({"STATE_SAVING_INTERVAL": "30s"}, 30)])
def test_the_saving_interval_comes_from_job_or_workload(
    cluster: Cluster, params: dict[str, Any], seconds: float
) -> None:
    """The job's saving interval takes precedence over the workload's."""
    cluster.submit("a", **params)
    said: list[timedelta] = []
    script = at_first_step(lambda launch: said.append(launch.saving_interval))
    cluster.worker(script=script, workload={"saving_interval": timedelta(seconds=100)}).run()
    assert said == [timedelta(seconds=seconds)]


@pytest.mark.parametrize("state", [b"1\n300\n100\n5050\n", b"1\n300\n100\n5050", b"100\n5050", b"100\r\n5050\r\n"])
def test_the_state_of_the_demos_worker_is_resumed(cluster: Cluster, state: bytes) -> None:
    """A job that came as the demo's message resumes from `state.txt`, in both of its forms, if it has no checkpoint."""
    cluster.memory.put("runs/a/input.txt", b"1\n300\n")
    cluster.memory.put("runs/a/state.txt", state)
    body = json.dumps({"bucket": "", "folder": "runs/a", "parameters": {}})
    cluster.queue.send([Message(body=body, job="a", dedup="1")])
    cluster.worker().run()
    assert cluster.record("a").attempts[0].useful_s == pytest.approx(200, abs=1)
    assert cluster.output("a") == "45150"


@pytest.mark.parametrize(
    "state", [b"", b"100", b"1\n300\n100", b"1\n300\n100\n5050\n9", b"a\nb", b"\xff\n1", b"9" * 70_000]
)
def test_a_state_in_no_form_of_the_demos_is_an_error(cluster: Cluster, state: bytes) -> None:
    """It is never taken for "no state": the job fails with the reason and the way out, and the file is untouched."""
    cluster.memory.put("runs/a/input.txt", b"1\n300\n")
    cluster.memory.put("runs/a/state.txt", state)
    cluster.queue.send([demo_message("runs/a")])
    cluster.worker().run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert "runs/a/state.txt holds neither two nor four whole numbers" in (record.error or "")
    assert "holdfast retry a --from-start" in (record.error or "")
    kept = cluster.memory.get("runs/a/state.txt")
    assert kept is not None
    assert kept.body == state


def demo_message(folder: str) -> Message:
    return Message(body=json.dumps({"bucket": "", "folder": folder, "parameters": {}}), job="a", dedup="1")


@pytest.mark.parametrize(
    "earlier", [b"UTC Time: 1 - Begin processing the job", b"UTC Time: 1 - Begin processing the job\n"]
)
def test_our_first_line_does_not_stick_to_the_demos_last(cluster: Cluster, earlier: bytes) -> None:
    """The demo ends its log without a newline; ours begins on a line of its own."""
    cluster.memory.put("runs/a/input.txt", b"1\n3\n")
    cluster.memory.put("runs/a/logs.txt", earlier)
    cluster.queue.send([demo_message("runs/a")])
    cluster.worker().run()
    stored = cluster.memory.get("runs/a/logs.txt")
    assert stored is not None
    lines = stored.body.decode().splitlines()
    assert lines[0] == earlier.decode().strip()
    assert all(line.startswith("UTC Time: ") for line in lines)
    assert "Begin processing the job" in lines[1]


def test_the_log_of_an_invalid_job_says_why(cluster: Cluster) -> None:
    """The history of a job that took no step names the reason, and no step."""
    cluster.queue.send([demo_message("runs/a")])
    cluster.worker().run()
    stored = cluster.memory.get("runs/a/logs.txt")
    assert stored is not None
    last = stored.body.decode().splitlines()[-1]
    assert 'Stop executing the job before its first step, the reasons: ["invalid: no input:' in last
    assert "None" not in stored.body.decode()
