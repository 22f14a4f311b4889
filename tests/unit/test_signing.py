"""Signed messages: only senders with a key can start a job."""

import hashlib
import hmac
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.cluster import LAYOUT, Cluster
from support.fault_injection import FaultInjection

from adapters.signing_queue import SigningQueue
from client.commands import reconcile, submit
from client.config.composition import open_environment
from client.config.settings import from_environ
from client.operations import job_control as control
from lifecycle.errors import ConfigError, ForeignMessageError, RejectedMessageError
from lifecycle.job_record import JobRecord
from lifecycle.ports.queue import Message, SendFailure
from lifecycle.record.message import announce, parse_message, reannounce
from lifecycle.record.record_store import WriteConflict
from lifecycle.record.signing import Signer
from lifecycle.states import State

NEW, OLD = "new-key-0123456789", "old-key-0123456789"
SIGNER = Signer(NEW.encode())
DEMO = {"bucket": "b", "folder": "elsewhere/job0", "parameters": {"STEP_RUNNING_TIME": 0.1}}
DOCS = Path(__file__).resolve().parents[2] / "docs" / "security.md"


def signed(text: str, key: str = NEW) -> str:
    """Sign *text* without using Holdfast's code."""
    return json.dumps(
        {"signed": text, "hmac_sha256": hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()}
    )


def payload(**more: object) -> str:
    return json.dumps({"job": "a", "bucket": "b", "prefix": "runs", **more})


def test_a_signed_message_keeps_its_meaning() -> None:
    """Signing does not change the meaning of an announcement, a demo message or a whole job."""
    record = JobRecord("a", "w", demo=True)
    for message in (
        announce(record, 3),
        reannounce(LAYOUT.job("a"), record, 3, bucket="b"),
        Message(json.dumps({"job": "a", "workload": "w", "params": {"\u00e9": 1.10, "x": "\ud83d\ude00"}}), "a", "d"),
    ):
        body = SIGNER.sign(message.body, bucket="b", prefix="runs")
        assert body.isascii()
        assert parse_message(body, layout=LAYOUT, bucket="b", signer=SIGNER) == parse_message(
            message.body, layout=LAYOUT, bucket="b"
        )


def test_without_a_key_nothing_is_signed_or_verified() -> None:
    """Without a key, nothing is signed, and signed messages are accepted without verification."""
    body = announce(JobRecord("a", "w"), 1).body
    assert Signer().sign(body, bucket="b", prefix="runs") == body
    assert parse_message(signed(payload(), "any-other-key-at-all"), layout=LAYOUT, bucket="b").keys.job == "a"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (json.dumps({"job": "a"}), "not signed"),
        (json.dumps(DEMO), "not signed"),
        (json.dumps({"job": "a", "hmac_sha256": "00" * 32}), "not signed"),
        (json.dumps({"signed": {"job": "a"}, "hmac_sha256": "00"}), "not text"),
        (json.dumps({"signed": payload()}), "signature is wrong"),
        (json.dumps({"signed": payload(), "hmac_sha256": None}), "signature is wrong"),
        (json.dumps({"signed": payload(), "hmac_sha256": "\u0661" * 64}), "signature is wrong"),
        (json.dumps({"signed": payload(), "hmac_sha256": ""}), "signature is wrong"),
        (json.dumps({"signed": "\ud800", "hmac_sha256": "00" * 32}), "signature is wrong"),
        (signed(payload(), OLD), "signature is wrong"),
        (signed(payload(), NEW).replace('\\"a\\"', '\\"c\\"'), "signature is wrong"),
        (signed(json.dumps({"job": "a"})), "for bucket None"),
        (signed("nonsense"), "not JSON"),
        (signed("[]"), "not a JSON object"),
        (signed(signed(payload())), "for bucket None"),
        (signed(payload(job="../x")), "not a job id"),
    ],
)
def test_a_wrongly_signed_message_is_refused(body: str, reason: str) -> None:
    """A message that is unsigned, wrongly signed, changed, or signed for no destination is refused."""
    with pytest.raises(RejectedMessageError, match=reason) as caught:
        parse_message(body, layout=LAYOUT, bucket="b", signer=SIGNER)
    assert "\n" not in str(caught.value)
    assert NEW not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        (payload(prefix="other"), "prefix 'other'"),
        (payload(bucket="other"), "bucket 'other'"),
        (json.dumps({**DEMO, "bucket": "other"}), "bucket 'other'"),
    ],
)
def test_a_message_signed_for_another_destination_is_foreign(text: str, owner: str) -> None:
    """A copy of a message is not taken by the workers of another queue, and not deleted by them either."""
    with pytest.raises(ForeignMessageError, match=owner):
        parse_message(signed(text), layout=LAYOUT, bucket="b", signer=SIGNER)


def test_a_key_rotation_loses_no_message() -> None:
    """During a key rotation, senders and workers may be one step apart, and no message is refused."""
    steps = [
        Signer(OLD.encode()),
        Signer(OLD.encode(), NEW.encode()),
        Signer(NEW.encode(), OLD.encode()),
        Signer(NEW.encode()),
    ]
    body = announce(JobRecord("a", "w"), 1).body
    for sender, one in enumerate(steps):
        for reader in steps[max(sender - 1, 0) : sender + 2]:
            sent = one.sign(body, bucket="b", prefix="runs")
            assert parse_message(sent, layout=LAYOUT, bucket="b", signer=reader).keys.job == "a"
    with pytest.raises(RejectedMessageError):
        parse_message(steps[0].sign(body, bucket="b", prefix="runs"), layout=LAYOUT, bucket="b", signer=steps[3])


def test_the_recipe_in_the_documentation_works() -> None:
    """The recipe in docs/security.md produces a message that a worker accepts."""
    (recipe,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    given: dict[str, Any] = {}
    exec(recipe.replace("YOUR-KEY", NEW), given)  # noqa: S102 - our own documentation
    message = parse_message(given["body"], layout=LAYOUT, bucket="my-bucket", signer=SIGNER)
    assert message.draft is not None
    assert message.draft.workload == "relax"


@pytest.mark.parametrize(
    "body", [announce(JobRecord("a", "series-sum"), 1).body, signed(payload(bucket="", job="a"), OLD)]
)
def test_an_unsigned_message_is_rejected_unread(tmp_path: Path, body: str) -> None:
    """An unsigned message is kept under rejected/ with the reason, dead-lettered and deleted; no record is read."""
    cluster = Cluster(tmp_path)
    cluster.submit("a")
    cluster.queue._messages[0].message = Message(body, "a", "d")
    calls: list[tuple[str, str]] = []
    store = FaultInjection(cluster.memory, before=lambda name, *args, **_: calls.append((name, str(args[0]))))
    cluster.worker(store=store, signer=SIGNER).run()
    assert [(name, key.startswith(LAYOUT.rejected)) for name, key in calls] == [("put", True)]
    kept = cluster.memory.get(calls[0][1])
    assert kept is not None
    assert "sign" in json.loads(kept.body)["why"]
    assert json.loads(kept.body)["body"] == body
    assert [body for body, _ in cluster.queue.dead] == [body]
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0
    assert cluster.record("a").state is State.QUEUED


def test_a_pause_sends_a_signed_message(tmp_path: Path) -> None:
    """The message that a pausing worker sends is signed."""
    cluster = Cluster(tmp_path)
    queue = SigningQueue(cluster.queue, SIGNER, bucket="", prefix="runs")
    cluster.submit("a")
    cluster.queue._messages.clear()
    queue.send([announce(cluster.record("a"), 1)])
    cluster.worker(queue=queue, signer=SIGNER, max_running_time=timedelta(seconds=100)).run()
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["timeout", "timeout", "completed"]
    assert not list(cluster.memory.list(LAYOUT.rejected))


def test_every_command_that_sends_signs(tmp_path: Path) -> None:
    """Messages of submit, retry and reconcile are signed."""
    env = open_environment(
        from_environ({"HOLDFAST_HOME": str(tmp_path), "JOB_SIGNING_KEY": NEW, "PREFIX": "runs"}, None)
    )

    def took() -> int:
        delivery = env.queue.receive(hidden=timedelta(minutes=1), wait=timedelta(0))
        assert delivery is not None
        env.queue.delete(delivery)
        return parse_message(delivery.body, layout=LAYOUT, bucket="", signer=SIGNER).sequence

    submit.run(env, submit.read_requests(["a"], file=None, workload="w", params=[]), as_json=False)
    assert took() == 1
    reconcile.run(env, older=timedelta(0), dry_run=False, as_json=False)
    assert took() == 2
    stored = env.record_store.read(LAYOUT.job("a").record)
    assert stored is not None
    failed = evolve(stored.record, state=State.FAILED, demo=True)
    assert not isinstance(env.record_store.write(LAYOUT.job("a").record, failed, stored.version), WriteConflict)
    control.retry(env, "a")
    assert took() == 3


def test_a_send_failure_has_the_unsigned_message(tmp_path: Path) -> None:
    """A refused message is returned to the sender without its signature, and equal messages are all sent."""
    sent: list[Message] = []

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return None

        def send(self, messages: list[Message]) -> list[SendFailure]:
            sent.extend(messages)
            return [SendFailure(messages[0], "no")]

    message = announce(JobRecord("a", "w"), 1)
    queue: Any = Refusing()
    assert SigningQueue(queue, SIGNER, bucket="", prefix="").send([message] * 3) == [SendFailure(message, "no")]
    assert len(sent) == 3
    assert all("hmac_sha256" in one.body for one in sent)


@pytest.mark.parametrize(
    "key", ["short", "fifteen-letters", "with a blank 0123456789", "line\nbreak-0123456789", "é" * 20]
)
def test_an_invalid_key_is_refused_and_not_shown(key: str) -> None:
    """A key that is short or contains blanks or line breaks is refused, and not shown."""
    for name in ("JOB_SIGNING_KEY", "JOB_SIGNING_KEY_OTHER"):
        with pytest.raises(ConfigError, match=f"{name}=.*16 characters") as caught:
            from_environ({name: key}, None)
        assert key not in str(caught.value)
    with pytest.raises(ConfigError, match="JOB_SIGNING_KEY must be set too"):
        from_environ({"JOB_SIGNING_KEY_OTHER": OLD}, None)
