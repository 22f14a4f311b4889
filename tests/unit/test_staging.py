"""What a workload finds when it starts: its input, all of it, the state that it goes on from, and nothing else."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.fault_injection import FaultInjection, unless_dead

from lifecycle.ports.queue import Message
from lifecycle.ports.runner import Launch
from lifecycle.states import State

A_WHILE = timedelta(seconds=100)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def at_first_step(look: Callable[[Launch], None]) -> Callable[[Launch, int], int | None]:
    """A script that has *look* look around at the first step of each attempt."""
    seen: set[int] = set()

    def script(launch: Launch, _: int) -> int | None:
        if launch.epoch not in seen:
            seen.add(launch.epoch)
            look(launch)
        return None

    return script


def below(folder: Path) -> dict[str, bytes]:
    """The files that lie there."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- the input ----


def test_all_of_the_input_is_there(cluster: Cluster) -> None:
    """In its folders, and empty files too."""
    keys = cluster.submit("a")
    more = {"deep/er/down.bin": b"x" * 1000, "empty": b"", "more.txt": b"more"}
    for name, content in more.items():
        cluster.memory.put(f"{keys.input}{name}", content)
    found: dict[str, bytes] = {}
    cluster.worker(script=at_first_step(lambda launch: found.update(below(launch.dirs.input)))).run()
    assert found == {"input.txt": b"1\n300\n", **more}
    assert cluster.output("a") == "45150"


@pytest.mark.parametrize("name", ["../evil", "sub/"], ids=["out of the folder", "a folder that is a file"])
def test_an_input_that_no_file_can_be_named_as_fails_the_job(cluster: Cluster, name: str) -> None:
    """It is neither left out in silence nor written anywhere else."""
    keys = cluster.submit("a")
    cluster.memory.put(f"{keys.input}{name}", b"evil")
    cluster.worker().run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert "has a name that would leave its directory" in (record.error or "")
    assert b"evil" not in below(cluster.root).values()


def test_a_workload_that_needs_no_input_starts_without(cluster: Cluster) -> None:
    """What comes of that is its own affair: this one says that it is invalid."""
    cluster.submit("a", None)
    cluster.worker(workload={"needs_input": False}).run()
    assert cluster.record("a").error == "input.txt: is not two whole numbers"


def test_a_worker_drained_while_it_loads_stops_loading(cluster: Cluster) -> None:
    """And hands the job back, not begun."""
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


def test_nothing_of_an_earlier_attempt_lies_in_the_way(cluster: Cluster) -> None:
    """Not what its program wrote where it should not, nor its console, nor pictures that were never committed."""
    cluster.submit("a")
    strays: list[Path] = []

    def look(launch: Launch) -> None:
        strays.extend(path for path in launch.dirs.root.rglob("stray*") if path.exists())
        for folder in (launch.dirs.input, launch.dirs.control, launch.dirs.console, launch.dirs.snapshots):
            (folder / f"stray{launch.epoch}").mkdir()

    cluster.worker(script=at_first_step(look), max_running_time=A_WHILE).run()
    assert len(cluster.record("a").attempts) == 3
    assert strays == []


def test_what_was_never_saved_is_not_found_by_the_next_attempt(cluster: Cluster) -> None:
    """It begins anew, as it would on another node."""
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


def test_what_lies_on_this_node_is_not_fetched_again(cluster: Cluster) -> None:
    """The next attempt finds its checkpoint in the last picture."""
    cluster.submit("a")
    fetched: list[object] = []

    def look(name: str, *args: object, **_: object) -> None:
        if name == "get_range" and "/packs/" in str(args[0]):
            fetched.append(args[0])

    store = FaultInjection(cluster.memory, before=look)
    cluster.worker(store=store, max_running_time=A_WHILE).run()
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["timeout"] * 2 + ["completed"]
    assert [key for key in fetched if "/e3/" not in str(key)] == []  # those are the outputs, read to be published


# ---- how it is started ----


@pytest.mark.parametrize(("params", "seconds"), [({}, 100), ({"STATE_SAVING_INTERVAL": "30s"}, 30)])
def test_how_often_to_save_is_said_by_the_job_or_its_workload(
    cluster: Cluster, params: dict[str, object], seconds: float
) -> None:
    """In this order; and only then by the worker."""
    cluster.submit("a", **params)
    said: list[timedelta] = []
    script = at_first_step(lambda launch: said.append(launch.saving_interval))
    cluster.worker(script=script, workload={"saving_interval": timedelta(seconds=100)}).run()
    assert said == [timedelta(seconds=seconds)]


def test_what_the_demos_own_worker_left_is_gone_on_from(cluster: Cluster) -> None:
    """A job that came as the demo's message, and never had a checkpoint of ours."""
    cluster.memory.put("runs/a/input.txt", b"1\n300\n")
    cluster.memory.put("runs/a/state.txt", b"1\n300\n100\n5050\n")
    body = json.dumps({"bucket": "", "folder": "runs/a", "parameters": {}})
    cluster.queue.send([Message(body=body, job="a", dedup="1")])
    cluster.worker().run()
    assert cluster.record("a").attempts[0].useful_s == pytest.approx(200, abs=1)
    assert cluster.output("a") == "45150"
