"""Observers are notified of everything and cannot harm an attempt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from support.cluster import Cluster

from lifecycle.job_record import JobRecord
from lifecycle.states import Edge, State, Trigger


@define
class Notebook:
    """An observer that records its notifications."""

    edges: list[Edge] = field(factory=list)
    written: list[JobRecord] = field(factory=list)
    lines: list[Mapping[str, Any]] = field(factory=list)
    left_behind: list[JobRecord] = field(factory=list)

    def entered(self, edge: Edge, record: JobRecord) -> None:
        assert record.epoch, "no edge is told before the lease is ours"
        self.edges.append(edge)

    def wrote(self, record: JobRecord) -> None:
        self.written.append(record)

    def noted(self, line: Mapping[str, Any]) -> None:
        self.lines.append(line)

    def left(self, record: JobRecord) -> None:
        self.left_behind.append(record)


class Faulty:
    """An observer that always raises."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object) -> None:
            raise RuntimeError(name)

        return fail


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_an_observer_is_told_of_every_edge_write_and_line(cluster: Cluster) -> None:
    """An observer sees the edges in order, each written record, each line of the event log, and the end."""
    cluster.submit("a")
    notebook = Notebook()
    cluster.worker(observers=[notebook]).run()
    triggers = [edge.trigger for edge in notebook.edges]
    saved = [Trigger.CHECKPOINT, Trigger.COMMIT]
    assert triggers == [
        Trigger.TAKE,
        Trigger.STAGE,
        Trigger.START,
        *saved * 4,
        Trigger.CHECKPOINT,
        Trigger.COMPLETE,
    ]
    assert [record.write_id for record in notebook.written][-1] == cluster.record("a").write_id
    assert [line["event"] for line in notebook.lines].count("checkpoint") == 4
    assert notebook.lines[-1]["event"] == "completed"
    assert [record.state for record in notebook.left_behind] == [State.COMPLETED]


def test_an_observer_that_fails_harms_nothing(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The job completes, the next observer is notified, and the failure is logged."""
    cluster.submit("a")
    notebook = Notebook()
    cluster.worker(observers=[Faulty(), notebook]).run()
    assert cluster.output("a") == "45150"
    assert [record.state for record in notebook.left_behind] == [State.COMPLETED]
    assert "observer.failed observer=Faulty" in caplog.text
