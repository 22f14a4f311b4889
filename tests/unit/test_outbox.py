"""The outbox as a value, and the selection of edges that are reported."""

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


def test_adding_a_notice_twice_adds_it_once() -> None:
    """A change that is applied to its own result changes nothing."""
    once = filled(1)
    assert once.with_notice(notice(1)) is once


def test_a_delivered_notice_is_not_added_again() -> None:
    """Neither the same change nor an older epoch adds a notice that was delivered and removed."""
    emptied = filled(2).without({"a:1:1", "a:1:2"})
    assert emptied.notices == ()
    assert emptied.with_notice(notice(2)).notices == ()
    assert emptied.with_notice(notice(1, epoch=2)).with_notice(notice(7)).notices == (notice(1, epoch=2),)


def test_a_full_outbox_drops_the_oldest_and_counts_them() -> None:
    """A full outbox drops its oldest notices, and the next one says how many a receiver missed."""
    outbox = filled(MAX_NOTICES + 3)
    assert len(outbox.notices) == MAX_NOTICES
    assert outbox.notices[0] == evolve(notice(4), missed=3)
    assert outbox.notices[-1] == notice(MAX_NOTICES + 3)


def test_a_full_outbox_leaves_the_record_small() -> None:
    """With the longest job id and long errors, an outbox takes at most 45 KiB of the record."""
    job = "j" * 128
    record = JobRecord(job, "w")
    bare = len(encode_record(record))
    for number in range(1, 2 * MAX_NOTICES):
        record = with_notice(
            record, LAYOUT.job(job), number=number, at=AT, node="n" * 64, cause="c" * 20, error="e" * 9999
        )
    assert len(encode_record(record)) - bare < 45 << 10


def test_a_record_without_notices_has_no_outbox() -> None:
    """Without webhooks, the record is not a byte longer."""
    assert b"outbox" not in encode_record(JobRecord("a", "w"))
    emptied = with_notice(JobRecord("a", "w"), KEYS, number=1, at=AT)
    emptied = without_delivered({emptied.outbox.notices[0].id})(emptied)
    assert decode_record(encode_record(emptied)).outbox == Outbox((), 0, 1)


def test_a_record_with_notices_is_read_as_it_was_written() -> None:
    """Every field of a notice survives encoding and decoding."""
    record = with_notice(JobRecord("a", "w"), KEYS, number=1, at=AT, node="n", cause="c", error="e")
    assert decode_record(encode_record(record)) == record


def test_an_older_version_keeps_an_unknown_outbox() -> None:
    """An older version keeps the outbox as an unknown field, and writes it back unchanged."""
    record = with_notice(JobRecord("a", "w"), KEYS, number=1, at=AT)
    raw = json.loads(encode_record(record))
    foreign = {"schema": raw["schema"], "job": "a", "workload": "w", "outbax": raw["outbox"]}
    older = decode_record(json.dumps(foreign).encode())
    assert older.unknown == {"outbax": raw["outbox"]}
    assert json.loads(encode_record(evolve(older, beat=5)))["outbax"] == raw["outbox"]


def test_notice_ids_are_unique() -> None:
    """A job of the same name below another prefix, or submitted again, has other ids; a retry has the same."""
    first = JobRecord("a", "w", timestamps=Timestamps(submitted="2030-01-01"))
    again = evolve(first, timestamps=Timestamps(submitted="2030-01-02"))
    ids = [
        with_notice(record, keys, number=1, at=AT).outbox.notices[0].id
        for record, keys in ((first, KEYS), (again, KEYS), (first, evolve(KEYS, layout=evolve(LAYOUT, prefix="other"))))
    ]
    assert len(set(ids)) == 3
    assert with_notice(evolve(first, beat=3), KEYS, number=1, at=AT).outbox.notices[0].id == ids[0]


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: f"{edge.source}-{edge.trigger}-{edge.destination}")
def test_by_default_checkpoints_are_not_reported(edge: Edge) -> None:
    """By default every recorded edge is reported, except checkpoints, of which there may be thousands."""
    is_checkpoint = edge.trigger in {Trigger.CHECKPOINT, Trigger.COMMIT, Trigger.ABANDON}
    is_superseded = edge.trigger is Trigger.SUPERSEDE
    assert NotificationPolicy(Receiver()).notifies(edge) is not (is_checkpoint or is_superseded)


def test_checkpoints_are_reported_if_selected() -> None:
    """With `checkpointing` in the list, checkpoints are reported, but a second waiting snapshot is not."""
    policy = NotificationPolicy(Receiver(), DEFAULT_NOTIFIED_STATES | {State.CHECKPOINTING})
    reported = {
        (edge.source, edge.destination)
        for edge in EDGES
        if policy.notifies(edge) and edge.trigger in {Trigger.CHECKPOINT, Trigger.COMMIT, Trigger.ABANDON}
    }
    assert reported == {(State.RUNNING, State.CHECKPOINTING), (State.CHECKPOINTING, State.RUNNING)}


def test_only_selected_states_are_reported() -> None:
    """With one state in the list, only the edges into it are reported."""
    for state in NOTIFIABLE_STATES:
        reported = {
            edge.destination for edge in EDGES if NotificationPolicy(Receiver(), frozenset({state})).notifies(edge)
        }
        assert reported == {state}
