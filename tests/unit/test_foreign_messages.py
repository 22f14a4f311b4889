"""Messages for another bucket or prefix: returned to the queue, never deleted."""

from pathlib import Path

import pytest
from support.cluster import LAYOUT, Cluster

from lifecycle.errors import ConfigError
from lifecycle.job_record import JobRecord
from lifecycle.ports.queue import Message
from lifecycle.record.message import announce
from lifecycle.states import State


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def foreign(number: int, prefix: str = "other") -> Message:
    return announce(JobRecord(f"f{number}", "w"), 1, bucket="", prefix=prefix)


def bodies(cluster: Cluster) -> list[str]:
    return [kept.message.body for kept in cluster.queue._messages]


def test_foreign_messages_are_returned_and_own_jobs_run(cluster: Cluster) -> None:
    """Of a queue that two prefixes share, a worker takes its own jobs, and leaves the others' messages there."""
    messages = [foreign(number) for number in range(30)]
    cluster.queue.send([messages[0]])
    cluster.submit("a", "1\n20\n")
    cluster.queue.send(messages[1:])
    cluster.worker().run()
    assert cluster.record("a").state is State.COMPLETED
    assert sorted(bodies(cluster)) == sorted(message.body for message in messages)
    assert list(cluster.memory.list(LAYOUT.rejected)) == []
    assert cluster.queue.dead == []


def test_a_worker_of_another_prefix_ends_and_says_whose_the_messages_are(cluster: Cluster) -> None:
    """After ten different foreign messages and none of its own, a worker ends; the queue is as it was."""
    cluster.queue.send([*(foreign(number) for number in range(8)), *(foreign(number, "mine") for number in range(8))])
    before = bodies(cluster)
    with pytest.raises(ConfigError, match=r"8 for bucket '' and prefix 'other', 2 for .*'mine'.*none for .*'runs'"):
        cluster.worker().run()
    assert bodies(cluster) == before


def test_the_same_foreign_message_again_and_again_ends_no_worker(cluster: Cluster) -> None:
    """Nine foreign messages may come as often as they like."""
    cluster.queue.send([foreign(number) for number in range(9)])
    cluster.worker().run()
    assert len(bodies(cluster)) == 9
    assert min(kept.receives for kept in cluster.queue._messages) > 5


def test_a_message_of_an_earlier_version_still_works(cluster: Cluster) -> None:
    """An announcement without a destination starts the job whose record is there."""
    cluster.submit("a", "1\n20\n")
    cluster.queue.purge()
    cluster.queue.send([announce(cluster.record("a"), 1)])
    cluster.worker().run()
    assert cluster.record("a").state is State.COMPLETED
    assert bodies(cluster) == []


def test_a_message_of_an_earlier_version_without_a_record_is_not_deleted(cluster: Cluster) -> None:
    """It may be for another prefix, as nothing in it says; one that names this prefix is for a purged job."""
    unaddressed = announce(JobRecord("a", "w"), 1)
    addressed = announce(JobRecord("b", "w"), 1, bucket="", prefix="runs")
    cluster.queue.send([unaddressed, addressed])
    cluster.worker().run()
    assert bodies(cluster) == [unaddressed.body]
    assert [body for body, _ in cluster.queue.dead] == [addressed.body]
