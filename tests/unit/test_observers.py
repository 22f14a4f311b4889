"""Observers are notified of everything and cannot harm an attempt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from support.any_port import AnyPort
from support.cluster import Cluster

from lifecycle.job_record import JobRecord
from lifecycle.states import Edge, State, Trigger


@define
class RecordingObserver:
    """An observer that records its notifications."""

    edges: list[Edge] = field(factory=list)
    written: list[JobRecord] = field(factory=list)
    lines: list[Mapping[str, Any]] = field(factory=list)
    left_behind: list[JobRecord] = field(factory=list)

    def entered(self, edge: Edge, record: JobRecord) -> None:
        assert record.epoch, "no edge is reported before the lease is taken"
        self.edges.append(edge)

    def wrote(self, record: JobRecord) -> None:
        self.written.append(record)

    def noted(self, line: Mapping[str, Any]) -> None:
        self.lines.append(line)

    def left(self, record: JobRecord) -> None:
        self.left_behind.append(record)


class FailingObserver(AnyPort):
    """An observer that always raises."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object) -> None:
            raise RuntimeError(name)

        return fail


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_an_observer_sees_every_edge_write_and_line(cluster: Cluster) -> None:
    """An observer sees the edges in order, each written record, each line of the event log, and the end."""
    cluster.submit("a")
    observer = RecordingObserver()
    cluster.worker(observers=[observer]).run()
    triggers = [edge.trigger for edge in observer.edges]
    saved = [Trigger.CHECKPOINT, Trigger.COMMIT]
    assert triggers == [
        Trigger.TAKE,
        Trigger.STAGE,
        Trigger.START,
        *saved * 4,
        Trigger.CHECKPOINT,
        Trigger.COMPLETE,
    ]
    assert [record.write_id for record in observer.written][-1] == cluster.record("a").write_id
    assert [line["event"] for line in observer.lines].count("checkpoint") == 4
    assert observer.lines[-1]["event"] == "completed"
    assert [record.state for record in observer.left_behind] == [State.COMPLETED]


def test_a_failing_observer_has_no_effect(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The job completes, the next observer is notified, and the failure is logged."""
    cluster.submit("a")
    observer = RecordingObserver()
    cluster.worker(observers=[FailingObserver(), observer]).run()
    assert cluster.output("a") == "45150"
    assert [record.state for record in observer.left_behind] == [State.COMPLETED]
    assert "observer.failed observer=FailingObserver" in caplog.text
