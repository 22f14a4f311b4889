"""Keys that expire during a job: a real worker and a server that refuses expired keys."""

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.expiring_auth_server import ExpiringAuthServer, issue
from support.process_cluster import ProcessCluster, has_checkpoint

from acceptance.conftest import cloud

pytestmark = pytest.mark.acceptance

SUM = "4148640"
LIFE_S = 4.0
STEP_S = 0.008
OWNERS = ("AWS", "CLOUDFLARE")
COMMAND = (
    "import json, sys; from support.expiring_auth_server import issue; "
    f"print(json.dumps(issue({LIFE_S}, tells=True))); print(sys.argv, file=sys.stderr)"
)


@pytest.fixture
def auth_server(moto_url: str) -> Iterator[ExpiringAuthServer]:
    """Yield an expiring-auth server in front of moto."""
    made = ExpiringAuthServer(urlsplit(moto_url).port or 0)
    yield made
    made.close()


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return settings of a queue and a bucket that bypass the expiring-auth server."""
    return cloud(request, fifo=False)


@pytest.fixture
def office(settings: dict[str, str], tmp_path: Path) -> Iterator[ProcessCluster]:
    """Yield a cluster that submits and observes jobs."""
    home = tmp_path / "office"
    home.mkdir()
    made = ProcessCluster(home, settings)
    yield made
    made.close()


@pytest.fixture
def behind(settings: dict[str, str], auth_server: ExpiringAuthServer) -> dict[str, str]:
    """Return settings of a worker behind the expiring-auth server, without any keys."""
    queue = auth_server.url + urlsplit(settings["QUEUE_URL"]).path
    kept = {name: settings[name] for name in ("BUCKET", "PREFIX")}
    return {**kept, "QUEUE_URL": queue, "CLOUDFLARE_URL": auth_server.url}


class Renewer:
    """Replaces a file of keys atomically.

    Attributes:
        every_s: Seconds from one replacement to the next.
    """

    def __init__(self, file: Path, *, tells: bool) -> None:
        self._file = file
        self._tells = tells
        self._ended = threading.Event()
        self.every_s = LIFE_S / 2
        self._replace()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _replace(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(issue(LIFE_S, tells=self._tells)))
        fresh.replace(self._file)

    def _run(self) -> None:
        while not self._ended.wait(self.every_s):
            self._replace()


def carried_in_one_attempt(
    office: ProcessCluster, auth_server: ExpiringAuthServer, worker: "subprocess.Popen[bytes]", log: str
) -> None:
    """Assert that one attempt completed the job over three generations of keys, and logged no secret."""
    assert worker.poll() is None, log
    record = office.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["completed"], log
    assert (record.epoch, record.interruptions) == (1, {})
    assert office.output("a") == SUM
    assert min(len(auth_server.passed["queue"]), len(auth_server.passed["bucket"])) >= 3, log
    assert "Traceback" not in log
    assert "not-a-secret" not in log


@pytest.mark.parametrize("kind", ["in time", "late, and without a word of when they expire"])
def test_a_file_of_keys_that_is_replaced(
    kind: str, office: ProcessCluster, behind: dict[str, str], auth_server: ExpiringAuthServer, tmp_path: Path
) -> None:
    """An attempt survives several generations of keys in a file, and gaps without valid ones."""
    file = tmp_path / "keys.json"
    renewer = Renewer(file, tells=kind == "in time")
    cluster = ProcessCluster(tmp_path, {**behind, **{f"{owner}_CREDENTIALS_FILE": str(file) for owner in OWNERS}})
    try:
        office.submit("a", step_s=STEP_S)
        worker = cluster.worker()
        office.until("a", has_checkpoint)
        if kind != "in time":
            renewer.every_s = LIFE_S + 0.7
        office.until("a", lambda record: record.is_final)
        renewer.every_s = LIFE_S / 2  # publishing takes several calls, and is retried after 30 s
        office.settled("a")
        carried_in_one_attempt(office, auth_server, worker, cluster.log_of(worker))
    finally:
        renewer.close()
        cluster.close()
    if kind != "in time":
        assert auth_server.refused["bucket"] >= 2


def test_a_command_that_gives_new_keys_each_time(
    office: ProcessCluster, behind: dict[str, str], auth_server: ExpiringAuthServer, tmp_path: Path
) -> None:
    """The command runs again before its keys expire, and its stderr is never shown."""
    command = f"{sys.executable} -c {shlex.quote(COMMAND)} hush-hush"
    env = {f"{owner}_CREDENTIALS_COMMAND": command for owner in OWNERS}
    cluster = ProcessCluster(tmp_path, {**behind, **env, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        office.submit("a", step_s=STEP_S)
        worker = cluster.worker()
        office.settled("a")
        carried_in_one_attempt(office, auth_server, worker, cluster.log_of(worker))
        assert "hush" not in cluster.log_of(worker)
        doctor = cluster.holdfast("doctor")
    finally:
        cluster.close()
    assert "keys for the queue: from AWS_CREDENTIALS_COMMAND, expire in 0 min" in doctor.stdout
    assert "hush" not in doctor.stdout + doctor.stderr


def test_keys_that_are_renewed_long_after_they_expired(
    office: ProcessCluster, behind: dict[str, str], auth_server: ExpiringAuthServer, tmp_path: Path
) -> None:
    """The job runs on while its keys are expired, and is committed and completed once they are renewed."""
    file = tmp_path / "keys.json"
    renewer = Renewer(file, tells=True)
    cluster = ProcessCluster(tmp_path, {**behind, **{f"{owner}_CREDENTIALS_FILE": str(file) for owner in OWNERS}})
    try:
        office.submit("a", step_s=STEP_S)
        worker = cluster.worker()
        office.until("a", lambda record: record.checkpoint)
        renewer.close()
        while "ExpiredToken" not in cluster.log_of(worker):
            assert worker.poll() is None, cluster.log_of(worker)
            time.sleep(0.05)
        file.write_text(json.dumps(issue(3600.0, tells=True)))
        office.settled("a")
        assert worker.poll() is None
        assert [attempt.outcome for attempt in office.record("a").attempts] == ["completed"]
        assert office.output("a") == SUM
    finally:
        renewer.close()
        cluster.close()
    assert auth_server.refused["bucket"] >= 1
