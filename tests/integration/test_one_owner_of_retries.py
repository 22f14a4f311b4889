"""Retries have one owner: every request to a service is sent within a call of `Retrier`, as often as its policy says.

OpenTelemetry's exporter is not among the services: it is a library that sends by itself, and nothing waits for it.
"""

import ast
import http.client
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from support.stub import Reply, Stub

from adapters.aws import store as r2
from adapters.aws.admin import BucketAdmin, QueueAdmin
from adapters.memory.clock import ManualClock
from adapters.retrier import HEARTBEAT, METADATA, ONCE, PART, READ, RECEIVE, SEND, TRANSFER, WRITE, Retrier, RetryPolicy
from adapters.salad.node import SaladNode
from client.config.composition import open_admins, open_environment
from client.config.settings import Settings, from_environ
from lifecycle.errors import HoldfastError
from lifecycle.ports.node import Node
from lifecycle.ports.queue import Delivery, JobQueue, Message
from lifecycle.ports.store import ABSENT, ObjectStore, Range

ROOT: Final = Path(__file__).parents[2]
NETWORK: Final = {
    "boto3", "botocore", "s3transfer", "urllib3", "urllib.request", "http.client", "socket", "requests", "httpx",
}  # fmt: skip
SENDERS: Final = {
    **dict.fromkeys(
        (
            "client/commands/dashboard.py",
            "client/commands/exporter.py",
            "client/web/server.py",
            "client/web/security.py",
        ),
        "listens",
    ),
    "adapters/aws/admin.py": "walked below",
    "adapters/aws/clients.py": "creates clients",
    "adapters/aws/credentials.py": "botocore's types",
    "adapters/aws/error_mapping.py": "botocore's errors",
    "adapters/deadlines.py": "shuts connections down",
    "adapters/aws/multipart.py": "walked below: assemble",
    "adapters/aws/queue.py": "walked below",
    "adapters/aws/s3_http.py": "walked below: get, put, list",
    "adapters/aws/s3_listing.py": "botocore's parser of dates",
    "adapters/aws/store.py": "walked below",
    "adapters/local/node.py": "the host's name",
    "adapters/salad/node.py": "walked below",
    "adapters/telemetry/log_format.py": "the class name of http.client's errors",
    "adapters/webhook.py": "RetryingNotifier: tests/integration/test_webhook.py",
}
DELIVERY: Final = Delivery(body="{}", message_id="m", receipt="r", receives=1, received_at=0.0)
MINUTE: Final = timedelta(minutes=1)

Call = tuple[RetryPolicy, Callable[[Any], object]]
QUEUE: Final[dict[str, Call]] = {
    "receive": (RECEIVE, lambda queue: queue.receive(hidden=MINUTE, wait=MINUTE)),
    "extend": (HEARTBEAT, lambda queue: queue.extend(DELIVERY, hidden=MINUTE)),
    "release": (WRITE, lambda queue: queue.release(DELIVERY, delay=MINUTE)),
    "delete": (WRITE, lambda queue: queue.delete(DELIVERY)),
    "send": (SEND, lambda queue: queue.send([Message(body="", job="a", dedup="a")])),
    "dead_letter": (WRITE, lambda queue: queue.dead_letter(DELIVERY, reason="why")),
    "receive_limit": (READ, lambda queue: queue.receive_limit()),
    "depth": (READ, lambda queue: queue.depth()),
    "purge": (ONCE, lambda queue: queue.purge()),
}
STORE: Final[dict[str, Call]] = {
    "get": (READ, lambda store: store.get("k")),
    "put": (WRITE, lambda store: store.put("k", b"")),
    "put, large": (WRITE, lambda store: store.put("k", bytes(2 << 20))),
    "put, conditional": (ONCE, lambda store: store.put("k", b"", expected=ABSENT)),
    "get_range": (TRANSFER, lambda store: store.get_range(Range("k", 0, 1))),
    "put_file": (PART, lambda store: store.put_file("k", Path(__file__))),
    "assemble": (PART, lambda store: store.assemble("k", [Range("l", 0, 1)])),
    "list": (READ, lambda store: list(store.list(""))),
    "delete": (WRITE, lambda store: store.delete(["k"])),
}
QUEUES: Final[dict[str, Call]] = {
    "attributes": (READ, lambda queues: queues.attributes(queues.url)),
    "url_of": (READ, lambda queues: queues.url_of("q")),
    "create": (WRITE, lambda queues: queues.create("q", {})),
    "change": (WRITE, lambda queues: queues.change(queues.url, {})),
}
BUCKET: Final[dict[str, Call]] = {
    "exists": (READ, lambda bucket: bucket.exists()),
    "time": (READ, lambda bucket: bucket.time()),
    "refuses_wrong_bytes": (WRITE, lambda bucket: bucket.refuses_wrong_bytes("k")),
    "put_with_expect_s": (WRITE, lambda bucket: bucket.put_with_expect_s("k")),
    "create": (WRITE, lambda bucket: bucket.create()),
}
NODE: Final[dict[str, Call]] = {
    "reallocate": (METADATA, lambda node: node.reallocate("unfit")),
    "set_deletion_cost": (METADATA, lambda node: node.set_deletion_cost(1)),
}
ALL: Final = {"queue": QUEUE, "store": STORE, "queues": QUEUES, "bucket": BUCKET, "node": NODE}
TYPES: Final = {"queue": JobQueue, "store": ObjectStore, "queues": QueueAdmin, "bucket": BucketAdmin, "node": Node}


@pytest.fixture(params=["direct", "behind a proxy"])
def objects(stub: Stub, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return everything that sends requests, as the composition root builds it, for a service in trouble."""
    stub.script(Reply(503))
    monkeypatch.setattr(r2, "is_proxied", lambda _: request.param != "direct")
    monkeypatch.setattr("client.config.composition.SystemClock", ManualClock)
    settings = settings_for(stub.url)
    env, (queues, bucket) = open_environment(settings), open_admins(settings)
    node = SaladNode("n", "", stub.url, retry=Retrier("node", ManualClock()))
    return {"queue": env.queue, "store": env.store, "queues": queues, "bucket": bucket, "node": node}


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the requests that were sent outside of a retrier's call."""
    active: list[str] = []
    found: list[str] = []
    call, send = Retrier.__call__, http.client.HTTPConnection.send

    def counted(self: Retrier, policy: RetryPolicy, name: str, *args: Any, **kwargs: Any) -> object:
        active.append(name)
        try:
            return call(self, policy, name, *args, **kwargs)
        finally:
            active.pop()

    def watched(self: http.client.HTTPConnection, data: Any) -> None:
        if not active:
            found.append(str(data)[:80])
        send(self, data)

    monkeypatch.setattr(Retrier, "__call__", counted)
    monkeypatch.setattr(http.client.HTTPConnection, "send", watched)
    return found


def settings_for(url: str) -> Settings:
    """Return settings whose queue and bucket are at *url*."""
    keys = {"AWS_ID": "a", "AWS_KEY": "b", "CLOUDFLARE_ID": "a", "CLOUDFLARE_KEY": "b"}
    return from_environ({"QUEUE_URL": f"{url}/1/q", "CLOUDFLARE_URL": url, "BUCKET": "b", **keys}, None)


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, calls in ALL.items() for name in calls])
def test_each_request_is_sent_within_a_retrier_and_as_often_as_it_says(
    objects: dict[str, Any], outside: list[str], stub: Stub, owner: str, name: str
) -> None:
    """A service that answers 503 gets each request as often as the call's policy says: nothing else repeats it."""
    policy, call = ALL[owner][name]
    with suppress(HoldfastError):  # the node only logs, and `send` returns what was not accepted
        call(objects[owner])
    sent = [request for request in stub.requests if request.method != "DELETE" or name == "delete"]
    assert len(sent) == policy.attempts
    assert outside == []


@pytest.mark.parametrize("owner", TYPES)
def test_every_call_of_an_adapter_is_walked(owner: str) -> None:
    """A method that is added to a port or an admin client must be added to the tables above."""
    kind = TYPES[owner]
    public = {name for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}
    assert public == {name.partition(",")[0] for name in ALL[owner]}


def test_no_other_module_can_send_requests() -> None:
    """A module that imports a network library must be known here, and tenacity has two users."""
    found, retries = set(), set()
    for file in (file for ring in ("lifecycle", "adapters", "client") for file in ROOT.glob(f"{ring}/**/*.py")):
        names = set(imported(ast.parse(file.read_text())))
        path = str(file.relative_to(ROOT))
        if any(name == known or name.startswith(f"{known}.") for name in names for known in NETWORK):
            found.add(path)
        if "tenacity" in names:
            retries.add(path)
    assert found == set(SENDERS)
    assert retries == {"adapters/retrier.py", "adapters/webhook.py"}


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that *tree* imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_doctor_survives_one_refusal(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """One 503 makes doctor report nothing: its calls are retried like all others."""
    monkeypatch.setattr("client.config.composition.SystemClock", ManualClock)
    stub.script(Reply(503), Reply(200, b'{"Attributes": {"MessageRetentionPeriod": "1209600"}}'))
    queues, _ = open_admins(settings_for(stub.url))
    assert queues.attributes(queues.url) == {"MessageRetentionPeriod": "1209600"}
