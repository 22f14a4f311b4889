"""The contract of `lifecycle.ports.node.Node`, on a plain host, on SaladCloud's metadata service, and in memory."""

import json
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

import pytest
from attrs import frozen
from support.capabilities import declaring
from support.stub import CUT_SHORT, DROP, HANG, Reply, Stub

from adapters.local.node import LocalNode, this_node
from adapters.memory.clock import ManualClock
from adapters.memory.node import MemoryNode
from adapters.retrier import Retrier
from adapters.salad.node import SaladNode
from lifecycle.ports.node import Node

KIND: Final = "RTX 4090"
NO_HTTP: Final = Reply(status=1000)  # no status of HTTP has four digits


class Capability(Enum):
    """Optional properties of a node."""

    REPLACEABLE = auto()
    """Its platform replaces machines, and takes the calls of `reallocate` and `set_deletion_cost`."""


ADAPTERS: Final = {"local": set[Capability](), "salad": {Capability.REPLACEABLE}, "memory": {Capability.REPLACEABLE}}


@frozen
class Adapter:
    """A kind of node, with its platform.

    Attributes:
        node: A node whose operator calls this type of machine KIND.
        start: Returns the node of another process, given the name that the operator has for the type of machine.
        reallocations: Returns the reasons that reached the platform, oldest first.
        deletion_costs: Returns the costs that reached the platform, oldest first.
        answer: Makes the platform, if there is one, give this reply from now on.
    """

    node: Node
    start: Callable[[str], Node]
    reallocations: Callable[[], list[str]] = list
    deletion_costs: Callable[[], list[int]] = list
    answer: Callable[[Reply], None] = lambda _: None


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Adapter:
    """Return each node in turn."""
    retry = Retrier("node", ManualClock())
    match request.param:
        case "local":
            return Adapter(LocalNode("host-1-a", KIND), lambda kind: this_node(kind=kind, retry=retry))
        case "memory":
            node = MemoryNode("host-1-a", KIND)
            return Adapter(
                node,
                lambda kind: MemoryNode(kind=kind),
                reallocations=lambda: node.reallocations,
                deletion_costs=lambda: node.deletion_costs,
            )
        case _:
            return salad(stub, monkeypatch, retry)


def salad(stub: Stub, monkeypatch: pytest.MonkeyPatch, retry: Retrier) -> Adapter:
    """Return a node whose metadata service is *stub*."""
    monkeypatch.setattr("adapters.salad.node.TIMEOUT_S", 0.2)
    stub.script(Reply(202))

    def asked(method: str, path: str, name: str) -> list[Any]:
        found = [request for request in stub.requests if (request.method, request.path) == (method, path)]
        assert all(request.headers["metadata"] == "true" for request in found), "the service refuses calls without it"
        return [json.loads(request.body)[name] for request in found]

    return Adapter(
        SaladNode("machine-1-a", KIND, stub.url, retry=retry),
        lambda kind: this_node(kind=kind, salad_machine_id="machine", retry=retry),
        reallocations=lambda: asked("POST", "/v1/reallocate", "reason"),
        deletion_costs=lambda: asked("PUT", "/v1/deletion-cost", "deletion_cost"),
        answer=stub.script,
    )


def test_a_name_is_stable(adapter: Adapter) -> None:
    """The name is text, and stays the same, also after calls to the platform."""
    name = adapter.node.name
    assert name
    adapter.node.set_deletion_cost(1)
    adapter.node.reallocate("unfit")
    assert adapter.node.name == name


def test_no_two_processes_have_the_same_name(adapter: Adapter) -> None:
    """Each process's node has its own name, also on one machine."""
    names = [adapter.start("").name for _ in range(20)]
    assert len({adapter.node.name, *names}) == 21


def test_processes_on_one_machine_have_its_name_in_common(adapter: Adapter) -> None:
    """The machine's name is the same in each process on it, unless each is a machine of its own."""
    machines = {adapter.start("").machine for _ in range(3)}
    assert all(machines)
    assert len(machines) == (3 if isinstance(adapter.node, MemoryNode) else 1)


def test_the_kind_is_the_operators_word_for_the_machine(adapter: Adapter) -> None:
    """The kind is the operator's name for this type of machine, or empty."""
    assert adapter.node.kind == adapter.start(KIND).kind == KIND
    assert adapter.start("").kind == ""


@pytest.mark.parametrize("reason", ["x", "ECC error on GPU 3 \u2013 \u201cXid 79\u201d", "long" * 250])
def test_reallocate_takes_any_reason_of_1_to_1000_characters(adapter: Adapter, reason: str) -> None:
    """The call returns None and raises nothing, more than once."""
    for _ in range(2):
        adapter.node.reallocate(reason)


@pytest.mark.parametrize("cost", [0, 1, 2**31 - 1])
def test_set_deletion_cost_can_be_repeated(adapter: Adapter, cost: int) -> None:
    """The call returns None and raises nothing, more than once."""
    for _ in range(2):
        adapter.node.set_deletion_cost(cost)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(403),
        Reply(500, b"oops"),
        Reply(302, headers={"Location": "http://127.0.0.1:1/"}),
        DROP,
        HANG,
        CUT_SHORT,
        NO_HTTP,
    ],
    ids=["refused", "failing", "redirect", "dropped", "hanging", "cut short", "not HTTP"],
)
def test_a_platform_in_trouble_raises_nothing(adapter: Adapter, reply: Reply) -> None:
    """Neither call raises, for any answer of the platform."""
    adapter.answer(reply)
    adapter.node.reallocate("unfit")
    adapter.node.set_deletion_cost(3)


@declaring(ADAPTERS, Capability.REPLACEABLE)
@pytest.mark.parametrize("reason", ["x", "ECC error on GPU 3 \u2013 \u201cXid 79\u201d", "long" * 250])
def test_a_request_for_another_machine_reaches_the_platform(adapter: Adapter, reason: str) -> None:
    """The platform gets each request once, with its reason."""
    adapter.node.reallocate(reason)
    assert adapter.reallocations() == [reason]
    assert adapter.deletion_costs() == []


@declaring(ADAPTERS, Capability.REPLACEABLE)
def test_the_deletion_cost_reaches_the_platform(adapter: Adapter) -> None:
    """The platform gets each cost that is set, in order."""
    for cost in (0, 7, 2):
        adapter.node.set_deletion_cost(cost)
    assert adapter.deletion_costs() == [0, 7, 2]
    assert adapter.reallocations() == []
