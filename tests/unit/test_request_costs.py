"""Request costs: the estimate that `report` prints for a job's calls."""

from collections import Counter
from pathlib import Path

import pytest
from attrs import evolve
from support.cluster import Cluster
from support.fault_injection import FaultInjection

from client.views.request_costs import (
    RequestCounts,
    RequestPrices,
    attempt_requests,
    job_requests,
    parse_request_prices,
)
from client.views.time_accounting import attempt_times
from lifecycle.errors import ConfigError
from lifecycle.job_record import AttemptSummary, CheckpointRef, JobRecord, Result
from lifecycle.states import State

KINDS = {
    "queue": {"receive", "extend", "release", "delete", "send"},
    "write": {"put", "put_file", "assemble", "list"},
    "read": {"get", "get_range"},
}


def whole(record: JobRecord) -> RequestCounts:
    return sum((attempt_requests(record, one) for one in attempt_times(record)), job_requests(record))


def test_the_estimate_is_near_the_count(tmp_path: Path) -> None:
    """For a job of an hour with checkpoints, the estimate is near the number of calls made by submit and worker."""
    counts = Counter[str]({"put": 1, "send": 1})  # the submit
    cluster = Cluster(tmp_path)
    store = FaultInjection(cluster.memory, before=lambda name, *_, **__: counts.update([name]))
    queue = FaultInjection(cluster.queue, before=lambda name, *_, **__: counts.update([f"queue {name}"]))
    cluster.submit("a", "1\n4000\n")
    cluster.worker(store=store, queue=queue, max_jobs=1).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    estimated = whole(record)
    for kind, names in KINDS.items():
        named = {f"queue {name}" for name in names} | {"send"} if kind == "queue" else names
        counted = sum(count for name, count in counts.items() if name in named)
        assert counted > 5
        assert 0.7 * counted <= getattr(estimated, kind) <= 1.4 * counted, (kind, estimated, counts)


def test_the_estimate_grows_with_each_cause(tmp_path: Path) -> None:
    """Time held, checkpoints, uploads, resumes, output files, messages and archiving each add calls."""
    at = "2030-01-01T0{}:00:00+00:00".format
    ref = CheckpointRef("m", "d", 1, bytes=64 << 20, sent=64 << 20)
    attempt = AttemptSummary(1, "n", at(0), ended=at(1), useful_s=3600, steps=5)
    base = JobRecord("j", "s", state=State.FAILED, lease_s=120, dispatch=1, attempts=(attempt,))
    plain = whole(base)
    assert plain == RequestCounts(queue=1 + 2 + 120, write=1 + 3 + 120 + 180 + 1, read=1 + 2)
    assert whole(evolve(base, beat=360)).queue == plain.queue + 240
    assert whole(evolve(base, dispatch=4)).queue == plain.queue + 3
    saving = evolve(base, attempts=(evolve(attempt, commits=2),), checkpoint=ref)
    assert whole(saving).write == plain.write + 2 * (2 + 4)
    resumed = evolve(base, attempts=(evolve(attempt, resumed_step=3),), checkpoint=ref)
    assert whole(resumed).read == plain.read + 1 + 4
    done = evolve(base, result=Result(ref, 7, 1))
    assert whole(done) == plain + RequestCounts(write=2 + 4 + 7, read=1 + 4)
    assert whole(evolve(base, archived="s")).write == plain.write + 2
    never = JobRecord("j", "s")
    assert whole(never) == RequestCounts(queue=1, write=1, read=1)


def test_prices_per_million() -> None:
    """List prices apply unless others are given."""
    calls = RequestCounts(queue=1e6, write=2e6, read=3e6)
    assert calls.cost(RequestPrices()) == pytest.approx(0.40 + 9.0 + 1.08)
    assert calls.cost(parse_request_prices(["queue=1", "write=0"])) == pytest.approx(1 + 1.08)


@pytest.mark.parametrize("wrong", ["1", "queue=much", "write=-1", "class-a=4.5", "read=inf", "read=nan"])
def test_an_invalid_price_is_refused(wrong: str) -> None:
    """An invalid price is an error that names the option."""
    with pytest.raises(ConfigError, match="--call-price"):
        parse_request_prices([wrong])
