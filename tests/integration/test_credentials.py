"""Refreshing credentials: when they are read, and the effects on calls, threads and logs if they cannot be."""

import json
import logging
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.stub import Reply, Stub, s3_error, sqs_error

from adapters.aws import queue as sqs
from adapters.aws import store as r2
from adapters.aws.clients import Credentials
from adapters.aws.credentials import PAUSE_S, RefreshingCredentials, from_command, from_file, parse
from adapters.aws.error_mapping import S3, SQS
from adapters.memory.clock import ManualClock
from lifecycle.errors import ConfigError
from lifecycle.ports.store import ABSENT

ORIGIN = "AWS_CREDENTIALS_FILE"


class Issuer:
    """A source of credentials valid for *life_s* seconds, which can be made to fail."""

    def __init__(self, clock: ManualClock, life_s: float | None = 3600.0) -> None:
        self._clock = clock
        self.life_s = life_s
        self.readings = 0
        self.generation = 1
        self.fails = False

    def __call__(self) -> bytes:
        self.readings += 1
        if self.fails:
            raise ConfigError("not now")
        document = {"Version": 1, "AccessKeyId": f"AKIA{self.generation}", "SecretAccessKey": "s", "SessionToken": "t"}
        if self.life_s is not None:
            document["Expiration"] = (self._clock.now() + timedelta(seconds=self.life_s)).isoformat()
        return json.dumps(document).encode()


def renewed(issuer: Callable[[], bytes], clock: ManualClock) -> RefreshingCredentials:
    return RefreshingCredentials(issuer, service=SQS, origin=ORIGIN, clock=clock)


def key_id(credentials: RefreshingCredentials) -> str:
    return str(credentials.get_frozen_credentials().access_key)


@pytest.mark.parametrize(("life_s", "fine_s", "due_s"), [(3600.0, 3299.0, 3300.0), (40.0, 29.0, 30.0), (1.0, 1.9, 2.0)])
def test_keys_are_read_again_before_they_expire(life_s: float, fine_s: float, due_s: float) -> None:
    """Keys are read five minutes before they expire, or after three quarters of a shorter life.

    Two reads are at least two seconds apart.
    """
    clock = ManualClock()
    issuer = Issuer(clock, life_s)
    credentials = renewed(issuer, clock)
    key_id(credentials)
    clock.sleep(fine_s)
    key_id(credentials)
    assert issuer.readings == 1
    clock.sleep(due_s - fine_s)
    key_id(credentials)
    assert issuer.readings == 2


def test_keys_without_an_expiry_are_read_again_after_a_refusal() -> None:
    """Only a refusal causes a read, and repeated refusals do not cause one each."""
    clock = ManualClock()
    issuer = Issuer(clock, None)
    credentials = renewed(issuer, clock)
    assert key_id(credentials) == "AKIA1"
    clock.sleep(86_400)
    assert key_id(credentials) == "AKIA1"
    assert issuer.readings == 1
    assert not credentials.refreshed_after(404)
    assert not credentials.refreshed_after(403)
    assert not credentials.refreshed_after(403)
    assert issuer.readings == 2
    issuer.generation = 2
    clock.sleep(PAUSE_S)
    assert credentials.refreshed_after(401)
    assert key_id(credentials) == "AKIA2"
    assert issuer.readings == 3


def test_keys_that_cannot_be_refreshed_stay_in_use() -> None:
    """Old credentials stay in use until the service refuses them, while reading is tried again."""
    clock = ManualClock()
    issuer = Issuer(clock, 100.0)
    credentials = renewed(issuer, clock)
    key_id(credentials)
    issuer.fails = True
    clock.sleep(1000)
    assert key_id(credentials) == "AKIA1"
    assert key_id(credentials) == "AKIA1"
    assert issuer.readings == 2
    issuer.fails, issuer.generation = False, 2
    clock.sleep(PAUSE_S)
    assert key_id(credentials) == "AKIA2"


def test_keys_that_have_expired_are_used_and_read_again() -> None:
    """A file that is not yet refreshed does not end a job."""
    clock = ManualClock()
    issuer = Issuer(clock, -5.0)
    credentials = renewed(issuer, clock)
    assert key_id(credentials) == "AKIA1"
    clock.sleep(PAUSE_S)
    issuer.generation = 2
    assert key_id(credentials) == "AKIA2"


def test_without_keys_the_error_gives_the_reason() -> None:
    """Without keys the error gives the reason, and not every call reads them again."""
    clock = ManualClock()
    issuer = Issuer(clock)
    issuer.fails = True
    credentials = renewed(issuer, clock)
    for _ in range(3):
        with pytest.raises(ConfigError, match="not now"):
            key_id(credentials)
    assert issuer.readings == 1


def test_other_threads_do_not_wait_while_one_reads() -> None:
    """A command that hangs delays one call, but not the heartbeat."""
    clock = ManualClock()
    issuer = Issuer(clock, 100.0)
    reading, finish = threading.Event(), threading.Event()

    def slow() -> bytes:
        if issuer.readings:
            reading.set()
            assert finish.wait(30)
        return issuer()

    credentials = renewed(slow, clock)
    key_id(credentials)
    clock.sleep(90)
    issuer.generation = 2
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(key_id(credentials)))
    thread.start()
    assert reading.wait(30)
    assert key_id(credentials) == "AKIA1"
    finish.set()
    thread.join(30)
    assert seen == ["AKIA2"]
    assert key_id(credentials) == "AKIA2"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"hush-hush",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"AccessKeyId": "a"}).encode(),
        json.dumps({"AccessKeyId": "a", "SecretAccessKey": 7}).encode(),
        json.dumps({"Version": 2, "AccessKeyId": "a", "SecretAccessKey": "hush-hush"}).encode(),
        json.dumps({"AccessKeyId": "a", "SecretAccessKey": "hush-hush\n"}).encode(),
        json.dumps({"AccessKeyId": "a", "SecretAccessKey": "hush-hush", "SessionToken": ["hush-hush"]}).encode(),
        json.dumps({"AccessKeyId": "a", "SecretAccessKey": "hush-hush", "Expiration": "hush-hush"}).encode(),
        json.dumps({"AccessKeyId": "a", "SecretAccessKey": "hush-hush", "Expiration": "2030-01-01T00:00:00"}).encode(),
    ],
)
def test_an_invalid_document_is_not_quoted_in_the_error(document: bytes) -> None:
    """The error names the setting and quotes nothing of the document."""
    with pytest.raises(ConfigError, match="AWS_") as caught:
        parse(document, service=SQS, origin=ORIGIN)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    """A missing file is an error with the path and the system's reason."""
    file = tmp_path / "keys"
    with pytest.raises(ConfigError, match=rf"{ORIGIN} .*keys cannot be read: No such file"):
        from_file(file, ORIGIN)()
    file.write_bytes(b"{}")
    assert from_file(file, ORIGIN)() == b"{}"


def test_a_command_runs_without_a_shell_and_its_stderr_is_discarded(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command's arguments and its stderr reach neither an error nor a log, because they may contain keys."""
    program = "import sys; print('out', sys.argv[1:]); print('hush-hush', file=sys.stderr); sys.exit(int(sys.argv[2]))"
    command = f'{sys.executable} -c "{program}" "$HOME; x" '
    with caplog.at_level(logging.DEBUG):
        assert from_command(command + "0", ORIGIN)() == b"out ['$HOME; x', '0']\n"
        with pytest.raises(ConfigError, match=f"{ORIGIN} exited with 3; run it by hand") as caught:
            from_command(command + "3", ORIGIN)()
    assert "hush" not in str(caught.value) + caplog.text + "".join(capfd.readouterr())


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that hangs is killed with its children, even if one of them holds its output open."""
    monkeypatch.setattr("adapters.aws.credentials.COMMAND_TIMEOUT_S", 0.5)
    pid = tmp_path / "pid"
    command = f"sh -c 'sleep 600 & echo $! > {pid}; wait'"
    with pytest.raises(ConfigError, match="printed no keys within"):
        from_command(command, ORIGIN)()
    while Path(f"/proc/{pid.read_text().strip()}/stat").exists():  # until its new parent has reaped it
        if Path(f"/proc/{pid.read_text().strip()}/stat").read_text().split()[2] == "Z":
            break


@pytest.mark.parametrize(("command", "reason"), [("'", "not a valid command line"), ("", "not a valid command line")])
def test_a_malformed_command_is_an_error_at_once(command: str, reason: str) -> None:
    """A malformed command line is an error before anything runs."""
    with pytest.raises(ConfigError, match=reason):
        from_command(command, ORIGIN)


def test_a_missing_program_is_an_error() -> None:
    """A missing program is an error with the system's reason."""
    with pytest.raises(ConfigError, match=f"{ORIGIN} cannot be run: No such file"):
        from_command("/nowhere/at-all", ORIGIN)()


def signers(stub: Stub) -> list[str]:
    """Return the key id and the token of each request."""
    found = []
    for request in stub.requests:
        _, _, scope = request.headers["authorization"].partition("Credential=")
        found.append(f"{scope.split('/')[0]} {request.headers['x-amz-security-token']}")
    return found


@pytest.fixture
def two_generations() -> RefreshingCredentials:
    """Return credentials that change at the second read."""
    clock = ManualClock()
    issuer = Issuer(clock, None)
    credentials = RefreshingCredentials(issuer, service=S3, origin=ORIGIN, clock=clock)
    credentials.current()
    issuer.generation = 2
    clock.sleep(PAUSE_S)
    return credentials


@pytest.mark.parametrize("route", ["direct", "behind a proxy"])
@pytest.mark.parametrize("call", ["put", "put_file", "delete"])
def test_a_refused_call_is_repeated_with_new_keys(
    stub: Stub,
    two_generations: RefreshingCredentials,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    route: str,
    call: str,
) -> None:
    """A refused call is signed and sent again, by every route.

    Conditional writes too, since a refusal changes nothing.
    """
    monkeypatch.setattr(r2, "is_proxied", lambda _: route != "direct")
    store = r2.connect(endpoint=stub.url, region="auto", credentials=two_generations, bucket="b", clock=ManualClock())
    fine = Reply(200, b"<DeleteResult/>" if call == "delete" else b"", {"ETag": '"v"'})
    head = Reply(200, headers={"ETag": '"v"', "Content-Length": "1"})
    stub.script(s3_error(403, "ExpiredToken"), fine, head)
    (tmp_path / "f").write_bytes(b"x")
    calls: dict[str, Callable[[], Any]] = {
        "put": lambda: store.put("k", b"x", expected=ABSENT),
        "put_file": lambda: store.put_file("k", tmp_path / "f"),
        "delete": lambda: store.delete(["k"]),
    }
    calls[call]()
    assert signers(stub)[:2] == ["AKIA1 t", "AKIA2 t"]
    assert len({request.body for request in stub.requests[:2]}) == 1
    store._control.close()
    store._bulk.close()


def test_a_refused_queue_call_is_repeated_once_with_new_keys(
    stub: Stub, two_generations: RefreshingCredentials
) -> None:
    """It is sent again once; a second refusal is an error."""
    queue = sqs.connect(url=f"{stub.url}/1/q", credentials=two_generations, clock=ManualClock())
    stub.script(sqs_error(403, "InvalidClientTokenId"))
    with pytest.raises(ConfigError, match="AWS_CREDENTIALS"):
        queue.depth()
    assert signers(stub) == ["AKIA1 t", "AKIA2 t"]
    queue._control.close()
    queue._receiver.close()


def test_a_refused_call_is_not_repeated_with_the_same_keys(stub: Stub) -> None:
    """A call is not repeated with the same credentials."""
    clock = ManualClock()
    credentials = renewed(Issuer(clock), clock)
    store = r2.connect(endpoint=stub.url, region="auto", credentials=credentials, bucket="b", clock=clock)
    stub.script(s3_error(403, "InvalidAccessKeyId"))
    with pytest.raises(ConfigError):
        store.get("k")
    assert len(stub.requests) == 1


def test_without_keys_nothing_is_sent(stub: Stub, tmp_path: Path) -> None:
    """A call that cannot be signed is not sent, and the error names the setting."""
    missing = from_file(tmp_path / "none", ORIGIN)
    credentials = RefreshingCredentials(missing, service=SQS, origin=ORIGIN, clock=ManualClock())
    store = r2.connect(endpoint=stub.url, region="auto", credentials=credentials, bucket="b", clock=ManualClock())
    queue = sqs.connect(url=f"{stub.url}/1/q", credentials=credentials, clock=ManualClock())
    (tmp_path / "f").write_bytes(b"x")
    stub.script(Reply(200))
    for call in (lambda: store.get("k"), lambda: store.put_file("k", tmp_path / "f"), queue.depth):
        with pytest.raises(ConfigError, match=ORIGIN):
            call()
    assert not stub.requests


def test_keys_are_never_shown() -> None:
    """Neither the credentials nor what contains them shows a secret."""
    keys = parse(
        json.dumps({"AccessKeyId": "a", "SecretAccessKey": "hush", "SessionToken": "hush"}).encode(),
        service=S3,
        origin=ORIGIN,
    )
    assert "hush" not in repr(keys)
    assert evolve(keys, expires=None).credentials == Credentials(key_id="a", secret="hush", token="hush")
