"""The dashboard's pages: content, escaping, and the data behind them."""

import json
import re
import socket
from collections.abc import Iterator

import pytest
from attrs import evolve
from starlette.testclient import TestClient
from support.page import AT, EVIL, FailingStore, client_of, new_site, put

from client import cli
from client.commands import dashboard
from client.config.environment import Environment
from client.web import history
from client.web.console_view import TAIL_BYTES, ConsolePosition, clean, read_console
from client.web.diagram import LAYOUTS, arrows
from client.web.refresher import Summary
from client.web.sse import event
from lifecycle.errors import ConfigError, PermanentError
from lifecycle.job_record import AttemptSummary, JobRecord, Progress
from lifecycle.states import EDGES, State


@pytest.fixture
def env() -> Environment:
    """Return an empty environment."""
    return new_site()


@pytest.fixture
def web(env: Environment) -> Iterator[TestClient]:
    yield from client_of(env)


# ---- pages ----


def test_every_text_is_escaped(web: TestClient, env: Environment) -> None:
    """Text from records, logs and URLs is escaped on every page."""
    attempt = AttemptSummary(1, EVIL, AT.format(1), outcome=EVIL)
    record = JobRecord(
        "a",
        EVIL,
        params={EVIL: EVIL},
        state=State.RUNNING,
        owner=EVIL,
        lease_s=60,
        epoch=1,
        error=EVIL,
        labels={EVIL: EVIL},
        interruptions={EVIL: 1},
        attempts=(attempt,),
    )
    put(env, record)
    env.store.put(".holdfast/records/odd.json", EVIL.encode())
    line = {"at": AT.format(1), "epoch": 1, "node": EVIL, "event": EVIL, EVIL: EVIL}
    env.store.put(env.layout.job("a").log(1), (json.dumps(line) + "\nnonsense\n[]\n").encode())
    for path in (
        "/",
        "/jobs",
        "/jobs/a",
        "/nodes",
        "/jobs/a/cancel",
        f"/jobs?text={EVIL}",
        f"/jobs/{EVIL}",
        "/jobs/odd",
    ):
        page = web.get(path).text
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path
    assert "&lt;script&gt;" in web.get("/jobs/a").text


def test_server_sent_events_are_escaped() -> None:
    """Newlines in a workload's output do not start another server-sent event."""
    told = event("console", {"text": "a\n\nevent: summary\ndata: {}\n\r\u2028"})
    assert told.count("\n") == 3
    assert json.loads(told.splitlines()[1].removeprefix("data: "))["text"].startswith("a\n\nevent: summary")


def test_the_diagram_has_the_live_count_of_each_state(web: TestClient, env: Environment) -> None:
    """The diagram shows the count of each state, linked to its jobs."""
    put(env, *(JobRecord(f"j{n}", "s", state=State.FAILED) for n in range(3)), JobRecord("q", "s"))
    page = web.get("/").text
    for state in State:
        assert f'href="/jobs?state={state}"' in page
    assert re.findall(r'data-count="failed"[^>]*>(\d+)<', page) == ["3"] * len(LAYOUTS)
    assert re.findall(r'data-count="queued"[^>]*>(\d+)<', page) == ["1"] * len(LAYOUTS)
    assert re.findall(r'data-count="total">(\d+)<', page) == ["4"]


def test_recently_changed_jobs_come_first(web: TestClient, env: Environment) -> None:
    """The home page lists recently changed jobs first, and shows no remaining time for stale ones."""
    for job in ("old", "mid", "new"):
        put(env, JobRecord(job, "s", state=State.RUNNING, owner="n", lease_s=25, progress=Progress(1, 101, 1.0)))
        env.clock.sleep(20)
    page = web.get("/").text
    assert jobs_on(page) == ["new", "mid", "old"]
    to_go = re.findall(r'data-label="Remaining">([^<]*)<', page)
    assert [bool(text) for text in to_go] == [True, False, False]


def jobs_on(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/jobs/([^"]+)"', page)


def test_jobs_are_paged_filtered_and_sorted(web: TestClient, env: Environment) -> None:
    """The list of jobs can be paged, searched and sorted; invalid parameters are ignored."""
    put(env, *(JobRecord(f"job{n:03d}", "s", progress=Progress(n, 1000)) for n in range(120)))
    put(env, JobRecord("odd", "s", state=State.FAILED, error="No SPACE left", labels={"set": "Alpha"}))
    assert jobs_on(web.get("/jobs").text) == [f"job{n:03d}" for n in range(50)]
    assert jobs_on(web.get("/jobs?page=3").text) == [*(f"job{n:03d}" for n in range(100, 120)), "odd"]
    assert jobs_on(web.get("/jobs?page=99").text)[-1] == "odd"
    assert "page=3" in web.get("/jobs?page=2&text=job").text
    assert jobs_on(web.get("/jobs?sort=progress").text)[0] == "job119"
    assert 'aria-sort="descending"' in web.get("/jobs?sort=progress&reverse=1").text
    for text in ("space", "ALPHA", "odd"):
        assert jobs_on(web.get("/jobs", params={"text": text}).text) == ["odd"]
    assert jobs_on(web.get("/jobs", params={"text": "%"}).text) == []
    assert jobs_on(web.get("/jobs?state=failed").text) == ["odd"]
    for wrong in ("page=x", "page=-1", "page=0", "sort=;DROP", "state=nonsense", "page=%C2%B2"):
        assert len(jobs_on(web.get(f"/jobs?{wrong}").text)) == 50


def test_nodes_are_shown_with_their_rates(web: TestClient, env: Environment) -> None:
    """Nodes that own a job are counted as alive or silent, with their total rate and the rate per kind."""
    for job, node, lease_s, kind in (("a", "n1", 120, "A<4090>"), ("b", "n2", 120, ""), ("c", "gone", -2, "A<4090>")):
        attempts = (AttemptSummary(1, node, "2030-01-01T00:00:00+00:00", kind=kind),)
        record = JobRecord(job, "s", state=State.RUNNING, owner=node, lease_s=lease_s, attempts=attempts)
        put(env, evolve(record, progress=Progress(1, 9, 2.5)))
    put(env, JobRecord("d", "s"))
    page = web.get("/nodes").text
    assert "<b>2</b> alive" in page
    assert "<b>1</b> silent" in page
    assert "<b>5</b> steps/s" in page
    assert "A&lt;4090&gt;: <b>1</b> alive, <b>2.5</b> steps/s each</p>" in page


def test_a_failing_bucket_is_reported(web: TestClient, env: Environment) -> None:
    """A job's page has status 503 if the bucket fails, and 404 if there is no such job."""
    put(env, JobRecord("a", "s"))
    assert isinstance(env.store, FailingStore)
    assert web.get("/jobs/none").status_code == 404
    env.store.broken = True
    answer = web.get("/jobs/a")
    assert answer.status_code == 503
    assert "503" in answer.text


# ---- the diagram, the path, the plots ----


def test_every_edge_of_the_table_is_on_every_drawing() -> None:
    """Each layout of the diagram draws exactly the edges of the state table, inside its bounds."""
    drawn = {(pair, trigger) for arrow in arrows() for pair in arrow.pairs for trigger in arrow.triggers}
    assert drawn == {((edge.source, edge.destination), edge.trigger) for edge in EDGES}
    for layout in LAYOUTS:
        assert set(layout.boxes) == set(State)
        assert set(layout.paths) == {arrow.name for arrow in arrows()}
        for box in (*layout.boxes.values(), *layout.groups.values()):
            assert 0 <= box.left <= box.left + box.width <= layout.width
            assert 0 <= box.top <= box.top + box.height <= layout.height


def log_event(at: int, event_: str, epoch: int = 1, **facts: object) -> history.LogEvent:
    return history.LogEvent(history.parse_time(AT.format(at)), epoch, "n", event_, facts)


def test_the_path_of_a_job() -> None:
    """The path of a job contains the edges taken by each attempt, vanished ones included."""
    gone = AttemptSummary(1, "n1", AT.format(0), outcome="vanished", useful_s=5, commits=1)
    last = AttemptSummary(2, "n2", AT.format(5), AT.format(9), "completed", resumed_step=7, useful_s=4)
    record = JobRecord("a", "s", state=State.COMPLETED, epoch=2, attempts=(gone, last))
    s = State
    assert history.path(record, []) == {
        (s.QUEUED, s.RECEIVED),
        (s.RECEIVED, s.INPUT_LOADED),
        (s.INPUT_LOADED, s.RUNNING),
        (s.RUNNING, s.CHECKPOINTING),
        (s.CHECKPOINTING, s.RUNNING),
        (s.RUNNING, s.RECEIVED),
        (s.RECEIVED, s.RESUMED),
        (s.RESUMED, s.RUNNING),
        (s.RUNNING, s.COMPLETED),
    }


@pytest.mark.parametrize("state", [state for state in State if state is not State.SUPERSEDED])
@pytest.mark.parametrize("outcome", [None, "timeout", "vanished", "cancelled", "invalid", "drained", "workload_failed"])
def test_every_step_of_a_path_is_an_edge_of_the_table(state: State, outcome: str | None) -> None:
    """A job's path contains only edges of the state table, for any record."""
    edges = {(edge.source, edge.destination) for edge in EDGES}
    attempts = tuple(AttemptSummary(n, "n", AT.format(n), outcome=outcome, useful_s=n % 2) for n in range(1, 4))
    record = JobRecord("a", "s", state=state, epoch=3, attempts=attempts)
    for logged in ([], [log_event(1, "resumed", 3), log_event(2, "checkpoint", 3)]):
        taken = history.path(record, logged)
        assert taken <= edges, taken - edges


def test_progress_and_rate_over_time() -> None:
    """Progress comes from the logs and the record, and the rate is not computed across attempts."""
    logged = [
        log_event(0, "input_loaded"),
        log_event(2, "checkpoint", step=20),
        log_event(3, "checkpoint", step="odd"),
        log_event(4, "resumed", 2, step=20),
        log_event(6, "checkpoint", 2, step=60),
    ]
    record = JobRecord("a", "s", progress=Progress(70, 100, 5.0))
    record = evolve(record, timestamps=evolve(record.timestamps, updated=AT.format(8)))
    points = history.progress_plot(record, logged)
    assert [(done, rate) for _, done, rate in points] == [(0, None), (20, 10), (20, None), (60, 20), (70, 5)]
    assert [at - points[0][0] for at, _, _ in points] == [0, 2, 4, 6, 8]


# ---- the console ----


def test_the_console_continues_at_a_position(env: Environment) -> None:
    """Reading continues at a position, across segments and attempts, and never splits a character."""
    keys = env.layout.job("a")
    euro = "€".encode()
    env.store.put(keys.console(1, 0), b"one\n" + euro[:2])
    pieces = read_console(env, "a", None)
    assert [(one.text, str(one.end)) for one in pieces] == [("one\n", "1-0-4")]
    env.store.put(keys.console(1, 0), b"one\n" + euro)
    env.store.put(keys.console(1, 1), b"two")
    env.store.put(keys.console(2, 0), b"\x1b[31mred\x1b[0m\r50 %\r\n")
    pieces = read_console(env, "a", ConsolePosition.parse("1-0-4"))
    assert [(one.epoch, one.text) for one in pieces] == [(1, "€"), (1, "two"), (2, "red\n50 %\n")]
    assert read_console(env, "a", pieces[-1].end) == []


def test_the_end_of_a_long_console_is_shown(env: Environment) -> None:
    """A long console is shown from near its end; an invalid position counts as none."""
    env.store.put(env.layout.job("a").console(1, 0), b"x" * (3 * TAIL_BYTES))
    assert sum(len(one.text) for one in read_console(env, "a", None)) == TAIL_BYTES
    assert [ConsolePosition.parse(text) for text in ("", "1-2", "a-b-c", "1-2-3-4", "9" * 40 + "-1-1")] == [None] * 5
    assert clean("\x1b]0;title\x07plain") == "plain"


# ---- the command ----


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing extra is one line with the command that installs it, and exit code 1."""
    monkeypatch.setattr(dashboard, "NEEDED", ("starlette", "no_such_package"))
    assert cli.main(["dashboard"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no_such_package" in said
    assert "pip install 'holdfast-jobs[dashboard]'" in said


def test_an_unusable_address_or_token_is_an_error(env: Environment) -> None:
    """A port that is taken or invalid, or a token that is too short, is an error."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PermanentError, match="cannot listen on"):
        dashboard.run(env, host="127.0.0.1", port=taken.getsockname()[1], token=None, names=[])
    with pytest.raises(ConfigError, match="--port 99999 is not a port"):
        dashboard.run(env, host="127.0.0.1", port=99999, token=None, names=[])
    with pytest.raises(ConfigError, match="has 3 characters"):
        dashboard.run(env, host="127.0.0.1", port=0, token="abc", names=[])


def test_before_the_first_refresh_there_is_no_time() -> None:
    """Before the first refresh the summary has no time and no jobs."""
    assert Summary().at is None
    assert Summary().total == 0
