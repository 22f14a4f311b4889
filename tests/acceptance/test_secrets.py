"""Secrets in recognisable form, given to every command, a worker and its workloads: none appears anywhere."""

import http.cookiejar
import json
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.expiring_auth_server import issue
from support.process_cluster import ProcessCluster

from acceptance.conftest import cloud
from client.cli import SUMMARIES
from client.config.settings import TABLE
from lifecycle.job_record import JobRecord
from lifecycle.ports.queue import Message
from lifecycle.record.message import announce

pytestmark = pytest.mark.acceptance

MARK = "hush-"
OTHERS = {
    "HF_TOKEN": f"{MARK}hf",
    "wandb_api_key": f"{MARK}wandb",
    "PGPASSWORD": f"{MARK}pg",
    "DATABASE_URL": f"postgres://me:{MARK}db@host/db",
    "OTEL_EXPORTER_OTLP_HEADERS": f"a={MARK}otlp",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": f"a={MARK}otlp",
}
"""Secrets that are not Holdfast's: no workload gets them unless workloads.toml names them."""
HOOK = f"http://127.0.0.1:9/{MARK}hook"  # a port without a listener
WORKLOADS = """[tells]
command = ["sh", "-c", "env; env > $HOLDFAST_OUTPUT_DIR/env.txt; env > $HOLDFAST_CHECKPOINT_DIR/env.txt"]
[fails]
command = ["sh", "-c", "env >&2; exit 1"]
"""
COMMANDS = {
    "demo": [],
    "worker": ["--idle-exit", "1s"],
    "upload": ["inputs"],
    "submit": ["tells", "--no-input", "--workload", "tells", "--json"],
    "status": ["--json"],
    "show": ["tells", "--json"],
    "report": ["--by", "job", "--csv", "report.csv", "--plot", "report.svg"],
    "queue": ["--json"],
    "storage": ["--json"],
    "download": ["out", "--state"],
    "logs": ["fails", "--console"],
    "verify": ["tells"],
    "archive": ["--older", "1d"],
    "exporter": ["--port", "-1"],
    "cancel": ["fails"],
    "retry": ["fails"],
    "rm": ["fails"],
    "checkpoints": ["tells", "--json"],
    "reconcile": ["--older", "0"],
    "purge": ["queue", "--yes"],
    "states": [],
    "setup": ["--policies"],
    "doctor": [],
    "dashboard": ["--port", "-1"],
    "settings": ["--json"],
    "help": ["status"],
    "completion": ["bash"],
}
PAGES = ("", "jobs", "jobs/tells", "jobs/fails", "nodes")


def secrets() -> dict[str, str]:
    """Return a value for each secret setting, except commands, which replace keys, and other secrets."""
    names = [row.name for row in TABLE if row.secret and not row.name.endswith("_COMMAND")]
    return (
        {name: f"{MARK}{name.lower().replace('_', '-')}-0123456789" for name in names} | {"WEBHOOK_URL": HOOK} | OTHERS
    )


@pytest.fixture(params=["files", "keys", "commands"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return settings on files, and on SQS and R2 with keys or with commands."""
    hushed = secrets()
    if request.param == "files":
        return hushed
    layout = {**cloud(request, fifo=False), **hushed}
    if request.param == "keys":
        return layout
    keys = tmp_path / "keys"
    keys.write_text(json.dumps({**issue(3600, tells=True), "SecretAccessKey": f"{MARK}1", "SessionToken": f"{MARK}2"}))
    for owner in ("AWS", "CLOUDFLARE"):
        for part in ("ID", "KEY", "TOKEN"):
            layout.pop(f"{owner}_{part}", None)
        script = f"cat {shlex.quote(str(keys))}; echo {MARK}3 >&2"
        layout[f"{owner}_CREDENTIALS_COMMAND"] = shlex.join(["sh", "-c", script])
    return layout


@pytest.fixture
def cluster(settings: dict[str, str], tmp_path: Path) -> Iterator[ProcessCluster]:
    """Yield a cluster that leaves all its files, caches included, below one folder."""
    home = tmp_path / "home"
    home.mkdir()
    made = ProcessCluster(home, {"MAX_FAILURES": "1", "HOME": str(home), **settings})
    (home / "workloads.toml").write_text(WORKLOADS)
    (home / "inputs" / "sum").mkdir(parents=True)
    (home / "inputs" / "sum" / "input.txt").write_text("1\n3\n")
    yield made
    made.close()


def pages(cluster: ProcessCluster) -> str:
    """Return all that the dashboard prints, and its pages as a client with the token sees them."""
    process = subprocess.Popen(
        [sys.executable, "-m", "client.cli", "dashboard", "--port", "0"],
        env=cluster.environ(),
        cwd=cluster.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    said = process.stdout.readline()
    address = said.split()[-1].partition("?")[0]
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    browser = urllib.request.build_opener(jar)
    shown = [browser.open(f"{address}?token={cluster.settings['DASHBOARD_TOKEN']}").read().decode()]
    shown += [browser.open(address + page).read().decode() for page in PAGES]
    assert "tells" in "".join(shown)
    process.terminate()
    rest, _ = process.communicate(timeout=30)
    return "".join([said, *shown, rest])


def traces(cluster: ProcessCluster) -> Iterator[tuple[str, bytes]]:
    """Yield every file and every object that was left."""
    for path in cluster.home.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()
    for listed in cluster.env.store.list(""):
        stored = cluster.env.store.get(listed.key)
        assert stored is not None
        yield listed.key, stored.body


def test_no_secret_is_seen_anywhere(cluster: ProcessCluster, settings: dict[str, str]) -> None:
    """No output, log, record, rejected message, page, file or object contains a secret, and no workload gets one."""
    assert COMMANDS.keys() == SUMMARIES.keys()
    seen: dict[str, str] = {}

    def run(what: str, *words: str, **more: str) -> None:
        done = cluster.holdfast(*words, **more)
        assert "Traceback" not in done.stderr
        seen[what] = done.stdout + done.stderr

    run("fails", "submit", "--no-input", "fails", "--workload", "fails")
    run("tells", "submit", "--no-input", "tells", "--workload", "tells")
    unsigned = announce(JobRecord("unsigned", "tells"), 1)
    cluster.env.queue._queue.send([unsigned, Message("nonsense", "x", "y")])  # type: ignore[attr-defined]
    run("worker", "worker", "--idle-exit", "3s")
    seen["pages"] = pages(cluster)
    once = set() if "QUEUE_URL" in settings else {"demo"}  # it never uses the cloud settings, and is slow
    for name in sorted(COMMANDS.keys() - {"demo", "purge"} | once):
        run(name, name, *COMMANDS[name])
    run("purge", "purge", *COMMANDS["purge"])
    run("settings for people", "settings")
    for name in settings.keys() & {"AWS_KEY", "CLOUDFLARE_TOKEN", "JOB_SIGNING_KEY", "DASHBOARD_TOKEN"}:
        run(f"a wrong {name}", "queue", **{name: f"{MARK}\u00e9"})
    run("a user in a URL", "queue", QUEUE_URL=f"https://me:{MARK}url@host/1/q")
    run("a password that is none", "queue", QUEUE_URL=f"htps://me:{MARK}/@url@host/1/q")
    assert cluster.record("tells").state == "completed"
    assert cluster.record("fails").attempts[0].outcome == "workload_failed"
    assert len(list(cluster.env.store.list(cluster.env.layout.rejected))) == 2
    assert {what: text for what, text in seen.items() if MARK in text} == {}
    assert [where for where, content in traces(cluster) if MARK.encode() in content] == []
    assert b"HOLDFAST_JOB=tells" in dict(traces(cluster))[f"{cluster.env.layout.job('tells').output}env.txt"]
