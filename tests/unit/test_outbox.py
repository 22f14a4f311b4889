"""The outbox as a value, and which edges are told."""

import json
from datetime import UTC, datetime

import pytest
from attrs import evolve
from support.cluster import LAYOUT
from support.receiver import Receiver

from lifecycle.job_record import JobRecord, Timestamps
from lifecycle.outbox import MAX_NOTICES, NOTIFIABLE_STATES, Notice, Outbox
from lifecycle.record.codec import decode_record, encode_record
from lifecycle.record.notifications import DEFAULT_NOTIFIED_STATES, NotificationPolicy, with_notice, without_delivered
from lifecycle.states import EDGES, Edge, State, Trigger

AT = datetime(2030, 1, 1, tzinfo=UTC)
KEYS = LAYOUT.job("a")


def notice(number: int, epoch: int = 1) -> Notice:
    return Notice(id=f"a:{epoch}:{number}", epoch=epoch, number=number, state=State.RUNNING, at="t")


def filled(count: int) -> Outbox:
    outbox = Outbox()
    for number in range(1, count + 1):
        outbox = outbox.with_notice(notice(number))
    return outbox


def test_putting_in_twice_puts_in_once() -> None:
    """A change that is applied to its own result changes nothing."""
    once = filled(1)
    assert once.with_notice(notice(1)) is once


def test_what_was_delivered_does_not_come_back() -> None:
    """Not by the same change applied again, though the notice is not there any more; nor by an older epoch's."""
    emptied = filled(2).without({"a:1:1", "a:1:2"})
    assert emptied.notices == ()
    assert emptied.with_notice(notice(2)).notices == ()
    assert emptied.with_notice(notice(1, epoch=2)).with_notice(notice(7)).notices == (notice(1, epoch=2),)


def test_a_full_outbox_folds_the_oldest_into_the_next() -> None:
    """So it does not grow, its newest notices are whole, and a receiver is told how many it missed."""
    outbox = filled(MAX_NOTICES + 3)
    assert len(outbox.notices) == MAX_NOTICES
    assert outbox.notices[0] == evolve(notice(4), missed=3)
    assert outbox.notices[-1] == notice(MAX_NOTICES + 3)


def test_a_full_outbox_leaves_the_record_small() -> None:
    """With the longest job id and long errors it takes 45 KiB at most: far from what a record may have."""
    job = "j" * 128
    record = JobRecord(job, "w")
    bare = len(encode_record(record))
    for number in range(1, 2 * MAX_NOTICES):
        record = with_notice(
            record, LAYOUT.job(job), number=number, at=AT, node="n" * 64, cause="c" * 20, error="e" * 9999
        )
    assert len(encode_record(record)) - bare < 45 << 10


def test_a_record_that_tells_nothing_is_as_it_was() -> None:
    """Not a byte more for whoever has no webhooks."""
    assert b"outbox" not in encode_record(JobRecord("a", "w"))
    emptied = with_notice(JobRecord("a", "w"), KEYS, number=1, at=AT)
    emptied = without_delivered({emptied.outbox.notices[0].id})(emptied)
    assert decode_record(encode_record(emptied)).outbox == Outbox((), 0, 1)


def test_a_record_with_notices_is_read_as_it_was_written() -> None:
    """Every field of a notice survives the way to the bucket and back."""
    record = with_notice(JobRecord("a", "w"), KEYS, number=1, at=AT, node="n", cause="c", error="e")
    assert decode_record(encode_record(record)) == record


def test_an_older_version_carries_an_outbox_that_it_does_not_know() -> None:
    """It is among the unknown fields there: kept, and written back as it was."""
    record = with_notice(JobRecord("a", "w"), KEYS, number=1, at=AT)
    raw = json.loads(encode_record(record))
    stranger = {"schema": raw["schema"], "job": "a", "workload": "w", "outbax": raw["outbox"]}
    older = decode_record(json.dumps(stranger).encode())
    assert older.unknown == {"outbax": raw["outbox"]}
    assert json.loads(encode_record(evolve(older, beat=5)))["outbax"] == raw["outbox"]


def test_an_id_is_no_other_jobs() -> None:
    """Not of that name under another prefix, nor submitted again after a purge; and it is the same at every try."""
    first = JobRecord("a", "w", timestamps=Timestamps(submitted="2030-01-01"))
    again = evolve(first, timestamps=Timestamps(submitted="2030-01-02"))
    ids = [
        with_notice(record, keys, number=1, at=AT).outbox.notices[0].id
        for record, keys in ((first, KEYS), (again, KEYS), (first, evolve(KEYS, layout=evolve(LAYOUT, prefix="other"))))
    ]
    assert len(set(ids)) == 3
    assert with_notice(evolve(first, beat=3), KEYS, number=1, at=AT).outbox.notices[0].id == ids[0]


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: f"{edge.source}-{edge.trigger}-{edge.destination}")
def test_usually_all_but_the_to_and_fro_is_told(edge: Edge) -> None:
    """Everything that is recorded, but for checkpoints, of which there may be thousands."""
    to_and_fro = edge.trigger in {Trigger.CHECKPOINT, Trigger.COMMIT, Trigger.ABANDON}
    never = edge.trigger is Trigger.SUPERSEDE
    assert NotificationPolicy(Receiver()).notifies(edge) is not (to_and_fro or never)


def test_checkpoints_are_told_to_whoever_asks() -> None:
    """With `checkpointing` in the list; another snapshot that waits is no change of state."""
    asked = NotificationPolicy(Receiver(), DEFAULT_NOTIFIED_STATES | {State.CHECKPOINTING})
    told = {
        (edge.source, edge.destination)
        for edge in EDGES
        if asked.notifies(edge) and edge.trigger in {Trigger.CHECKPOINT, Trigger.COMMIT, Trigger.ABANDON}
    }
    assert told == {(State.RUNNING, State.CHECKPOINTING), (State.CHECKPOINTING, State.RUNNING)}


def test_only_what_is_asked_for_is_told() -> None:
    """One state in the list: the edges into it, and no others."""
    for state in NOTIFIABLE_STATES:
        told = {edge.destination for edge in EDGES if NotificationPolicy(Receiver(), frozenset({state})).notifies(edge)}
        assert told == {state}
