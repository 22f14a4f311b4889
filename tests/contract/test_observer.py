"""The contract of `lifecycle.ports.observer.Observer`, on metrics, log lines, traces, memory and several as one.

Each one receives the calls that a real worker made to a recording observer.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from enum import Enum, auto
from typing import Any, Final

import pytest
from attrs import evolve, frozen
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.any_port import AnyPort
from support.capabilities import declaring
from support.cluster import LAYOUT, Cluster

from adapters.memory.clock import ManualClock
from adapters.memory.observer import Call, Entered, Left, MemoryObserver, Noted, Wrote
from adapters.telemetry.log_format import AttemptContextProcessor
from adapters.telemetry.metrics import Metrics
from adapters.telemetry.spans import SpanRecorder
from adapters.telemetry.tracing import Tracing
from lifecycle.attempt.observers import Observers
from lifecycle.ports.observer import Observer
from lifecycle.ports.runner import Launch
from lifecycle.states import EDGES, OWNED, State, Trigger

Story = Sequence[Call]
"""Calls that one worker made, in order."""


class Capability(Enum):
    """Optional facts that an observer shows."""

    EDGES = auto()
    """The number of edges that were followed."""
    WRITES = auto()
    """The number of writes of the record."""
    LINES = auto()
    """The number of lines of the attempts' logs, of any event."""
    ENDS = auto()
    """The number of attempts that are over."""
    STATE = auto()
    """The current attempt, and the state that it is in, while it owns the job."""
    SHIELDS = auto()
    """It has observers of its own, whose errors it keeps from the attempt."""


ADAPTERS: Final = {
    "metrics": {Capability.EDGES, Capability.WRITES, Capability.LINES, Capability.ENDS, Capability.STATE},
    "log": {Capability.STATE},
    "tracing": {Capability.ENDS},
    "memory": {Capability.EDGES, Capability.WRITES, Capability.LINES, Capability.ENDS, Capability.STATE},
    "composite": {*Capability},
    "nobody": set[Capability](),
}
COUNTED: Final = {
    Capability.EDGES: Entered,
    Capability.WRITES: Wrote,
    Capability.LINES: Noted,
    Capability.ENDS: Left,
}


@frozen
class Attempt:
    """The current attempt, as an observer shows it; `state` is None if it shows none."""

    job: str
    epoch: int
    state: State | None


@frozen
class Adapter:
    """An observer and what it shows.

    Attributes:
        observer: The observer.
        clock: Its clock.
        declares: Its capabilities.
        count: Returns the number that it shows of a capability that it declares.
        current: Returns the attempt that it shows as the current one; None if there is none.
    """

    observer: Observer
    clock: ManualClock
    declares: Collection[Capability] = ()
    count: Callable[[Capability], int] = lambda _: 0
    current: Callable[[], Attempt | None] = lambda: None


class Faulty(AnyPort):
    """An observer whose methods all fail."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object) -> None:
            raise RuntimeError(f"{name} fails on purpose")

        return fail


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Return each observer in turn."""
    return evolve(make(request.param, ManualClock()), declares=ADAPTERS[request.param])


def make(name: str, clock: ManualClock) -> Adapter:
    """Return the observer of that name in ADAPTERS."""
    match name:
        case "metrics":
            return metrics(clock)
        case "log":
            return log(clock)
        case "tracing":
            return tracing(clock)
        case "nobody":
            return Adapter(Observers(), clock)
        case "memory":
            kept = MemoryObserver()
            return memory(clock, kept, kept)
        case _:
            kept = MemoryObserver()
            return memory(clock, Observers(Faulty(), kept, Faulty()), kept)


def metrics(clock: ManualClock) -> Adapter:
    """Return the metrics of a worker, and what a scrape of them shows."""
    observer = Metrics(clock, "node1")
    names = {
        Capability.EDGES: "holdfast_transitions_total",
        Capability.WRITES: "holdfast_record_writes_total",
        Capability.LINES: "holdfast_attempt_events_total",
        Capability.ENDS: "holdfast_attempts_total",
    }

    def samples(name: str) -> list[tuple[Mapping[str, str], float]]:
        families = observer.registry.collect()
        return [(each.labels, each.value) for family in families for each in family.samples if each.name == name]

    def current() -> Attempt | None:
        states = [State(labels["state"]) for labels, value in samples("holdfast_attempt_state") if value == 1]
        attempts = [labels for labels, _ in samples("holdfast_attempt_info")]
        state = states[0] if states else None
        return Attempt(attempts[0]["job"], int(attempts[0]["epoch"]), state) if attempts else None

    return Adapter(
        observer, clock, count=lambda what: int(sum(value for _, value in samples(names[what]))), current=current
    )


def log(clock: ManualClock) -> Adapter:
    """Return the observer of log lines, and the fields that it adds to a line that names no job."""
    observer = AttemptContextProcessor("node1")

    def current() -> Attempt | None:
        line = observer(None, "info", {"_record": None, "event": "line.logged"})
        return Attempt(line["job"], line["epoch"], State(line["state"])) if "job" in line else None

    return Adapter(observer, clock, current=current)


def tracing(clock: ManualClock) -> Adapter:
    """Return the observer of traces, and the number of attempt spans."""
    exporter = InMemorySpanExporter()
    observer = Tracing(SpanRecorder(SimpleSpanProcessor(exporter), {}), clock, layout=LAYOUT, bucket="")
    return Adapter(
        observer, clock, count=lambda _: sum(span.name == "attempt" for span in exporter.get_finished_spans())
    )


def memory(clock: ManualClock, observer: Observer, kept: MemoryObserver) -> Adapter:
    """Return an observer that passes all calls on to *kept*."""

    def current() -> Attempt | None:
        told = [call for call in kept.calls if isinstance(call, Entered | Left)]
        if not told or isinstance(told[-1], Left):
            return None
        return Attempt(told[-1].record.job, told[-1].record.epoch, told[-1].edge.destination)

    def count(what: Capability) -> int:
        return sum(isinstance(call, COUNTED[what]) for call in kept.calls)

    return Adapter(observer, clock, count=count, current=current)


# ---- stories ----


def fails_for_good(_: Launch, step: int) -> int | None:
    """End with "the input is invalid" at step 150."""
    return 65 if step == 150 else None


def fails_once(launch: Launch, step: int) -> int | None:
    """End with a failure at step 150 of the first attempt."""
    return 1 if (launch.epoch, step) == (1, 150) else None


@pytest.fixture
def stories(told_stories: Mapping[str, Story]) -> Mapping[str, Story]:
    """Return a copy of all stories, since an observer might change its arguments."""
    return deepcopy(told_stories)


@pytest.fixture(scope="module")
def told_stories(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Story]:
    """Return calls of real workers for a job that is completed at once, one that fails, and one with two attempts.

    Two more attempts are derived from the first: one is superseded while it runs, and the end of the other cannot be
    recorded.
    """

    def tell(name: str, script: Callable[[Launch, int], int | None] | None) -> Story:
        cluster, told = Cluster(tmp_path_factory.mktemp(name)), MemoryObserver()
        cluster.submit(name)
        cluster.worker(observers=[told], script=script).run()
        return told.calls

    completed = tell("completed", None)
    running = next(
        n for n, call in enumerate(completed) if isinstance(call, Entered) and call.edge.trigger is Trigger.START
    )
    *before, start = completed[: running + 1]
    assert isinstance(start, Entered)
    superseded = next(edge for edge in EDGES if (edge.source, edge.trigger) == (State.RUNNING, Trigger.SUPERSEDE))
    return {
        "completed": completed,
        "failed": tell("failed", fails_for_good),
        "two attempts": tell("two-attempts", fails_once),
        "superseded": [*before, start, Entered(superseded, start.record), Left(start.record)],
        "unrecorded": [*before, start, Left(start.record)],
    }


@pytest.fixture(params=["completed", "failed", "two attempts", "superseded", "unrecorded"])
def story(request: pytest.FixtureRequest, stories: Mapping[str, Story]) -> Story:
    """Return each story in turn."""
    return stories[request.param]


def tell(adapter: Adapter, story: Story) -> None:
    """Make the calls of *story* to the observer."""
    for call in story:
        call.replay(adapter.observer)


# ---- the contract ----


def test_the_stories_are_whole(stories: Mapping[str, Story]) -> None:
    """The stories of this suite contain every method of the port, and begin and end their attempts."""
    assert {type(call) for call in stories["completed"]} == {Entered, Wrote, Noted, Left}
    takes = {
        name: sum(isinstance(call, Entered) and call.edge.trigger is Trigger.TAKE for call in story)
        for name, story in stories.items()
    }
    ends = {name: sum(isinstance(call, Left) for call in story) for name, story in stories.items()}
    assert takes == ends == {"completed": 1, "failed": 1, "two attempts": 2, "superseded": 1, "unrecorded": 1}


def test_an_observer_accepts_all_calls_of_a_worker(adapter: Adapter, story: Story) -> None:
    """No call of a real attempt raises, for any outcome of the attempt."""
    tell(adapter, story)


def test_attempts_may_follow_one_another(adapter: Adapter, stories: Mapping[str, Story]) -> None:
    """A worker's next attempt, of the same job or another, starts fresh."""
    for story in (*stories.values(), *reversed([*stories.values()])):
        tell(adapter, story)
        assert adapter.current() is None


def test_an_observer_changes_nothing(adapter: Adapter, story: Story) -> None:
    """Records and log lines are the same after an observer received them."""
    before = deepcopy(story)
    tell(adapter, story)
    assert story == before


def test_an_observer_does_not_wait(adapter: Adapter, story: Story) -> None:
    """No call lets time pass, since that would delay the attempt and its heartbeat."""
    before = adapter.clock.monotonic()
    tell(adapter, story)
    assert adapter.clock.monotonic() == before


def test_any_thread_may_call(adapter: Adapter, story: Story) -> None:
    """Several threads may call during an attempt; no call is lost or raises."""
    errors: list[BaseException] = []

    def in_a_thread(calls: Story) -> None:
        try:
            for call in calls:
                call.replay(adapter.observer)
        except BaseException as error:  # noqa: BLE001 - it is what the test is about
            errors.append(error)

    begin, *rest = story
    end = rest.pop()
    lines = [call for call in rest if isinstance(call, Noted)]
    others = [call for call in rest if not isinstance(call, Noted)]
    in_a_thread([begin])
    threads = [threading.Thread(target=in_a_thread, args=(calls,)) for calls in (lines, others, lines)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    in_a_thread([end])
    assert errors == []
    expected = [begin, *others, *lines, *lines, end]
    for counted, kind in COUNTED.items():
        if counted in adapter.declares:
            assert adapter.count(counted) == sum(isinstance(call, kind) for call in expected)


@pytest.mark.parametrize(
    ("adapter", "counted"),
    [(name, each) for name, declared in ADAPTERS.items() for each in COUNTED if each in declared],
    indirect=["adapter"],
)
def test_every_call_counts_once(adapter: Adapter, counted: Capability, story: Story) -> None:
    """An observer that counts a kind of event counts each call once."""
    expected = 0
    for call in (*story, *story):
        call.replay(adapter.observer)
        expected += isinstance(call, COUNTED[counted])
        assert adapter.count(counted) == expected


@declaring(ADAPTERS, Capability.STATE)
def test_the_current_attempt_is_shown_until_it_is_over(adapter: Adapter, story: Story) -> None:
    """The attempt is shown in the owned state that it entered last, and no longer once it has left."""
    current = Attempt("", 0, State.QUEUED)
    for call in story:
        call.replay(adapter.observer)
        if isinstance(call, Entered):
            current = Attempt(call.record.job, call.record.epoch, call.edge.destination)
        if isinstance(call, Left):
            assert adapter.current() is None
        elif current.state and current.state in OWNED:
            assert adapter.current() == current


@declaring(ADAPTERS, Capability.SHIELDS)
def test_errors_of_an_observer_are_logged_and_go_no_further(
    adapter: Adapter, story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    """An observer that raises is named in the log, with its traceback, once per failed call."""
    tell(adapter, story)
    failed = [line for line in caplog.records if line.exc_info and "fails on purpose" in str(line.exc_info[1])]
    assert len(failed) == 2 * len(story)
    assert all(Faulty.__name__ in line.getMessage() for line in failed)
