"""Short-lived credentials from a file or a command, read again before they expire and whenever a service refuses them.

The document is AWS's `credential_process` JSON, which many tools write:
https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html

botocore's own `RefreshableCredentials` is not used: once credentials have expired it raises in any thread that asks,
waits for a command without a limit, and logs the command's stderr. Here, credentials that cannot be refreshed stay in
use: the service then refuses the call, and the callers handle that error already.
"""

import json
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.credentials import ReadOnlyCredentials

from adapters.aws.clients import Credentials, check_credentials
from adapters.aws.error_mapping import Service
from lifecycle.errors import ConfigError
from lifecycle.ports.clock import Clock

COMMAND_TIMEOUT_S: Final = 10.0  # a heartbeat may have to wait for it
MAX_DOCUMENT_BYTES: Final = 1 << 16
REFRESH_AHEAD_S: Final = 300.0  # refresh this long before the expiration,
REFRESH_SHARE: Final = 0.75  # or after this share of the remaining lifetime, if that is later
PAUSE_S: Final = 2.0  # least time between two reads
REFUSED: Final = frozenset({401, 403})  # by status, because R2 and SQS have many codes for it
EXPECTED_FORM: Final = (
    'not JSON like {"Version": 1, "AccessKeyId": "…", "SecretAccessKey": "…", "SessionToken": "…", '
    '"Expiration": "2030-01-01T00:00:00Z"}'
)


@frozen
class ExpiringCredentials:
    """Credentials as read, and their expiration; None if the document gives none."""

    credentials: Credentials
    expires: datetime | None


ReadDocument = Callable[[], bytes]


class RefreshingCredentials(BotocoreCredentials):
    """A provider that reads credentials again when they are due or refused.

    Thread-safe. Only one thread reads at a time; the others go on with the previous credentials.

    Args:
        read: Reads the document; raises `ConfigError`.
        service: The service that the credentials are for; messages name its settings.
        origin: The setting that names the file or the command, for messages.
        clock: The clock that expirations are compared with.
    """

    method = "holdfast"  # botocore asks for it

    def __init__(self, read: ReadDocument, *, service: Service, origin: str, clock: Clock) -> None:
        self._read = read
        self._service = service
        self._origin = origin
        self._clock = clock
        self._lock = threading.Lock()
        self._given = threading.local()
        self._current: ExpiringCredentials | None = None
        self._problem: ConfigError | None = None
        self._read_at = -PAUSE_S
        self._due_at: float | None = None

    @property
    def origin(self) -> str:
        """The setting that names the file or the command."""
        return self._origin

    def current(self) -> ExpiringCredentials:
        """Return the credentials to use now, after reading them again if that is due.

        Raises:
            ConfigError: There are none, and none could be read.
        """
        if self._is_due() and self._lock.acquire(blocking=self._current is None):
            try:
                if self._is_due():
                    self._refresh()
            finally:
                self._lock.release()
        if self._current is None:
            raise self._problem or ConfigError(f"{self._origin}: no keys yet")
        return self._current

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return the credentials to sign a call with, in botocore's form.

        Raises:
            ConfigError: See `current`.
        """
        credentials = self.current().credentials
        self._given.credentials = credentials
        return ReadOnlyCredentials(credentials.key_id, credentials.secret, credentials.token)

    def refreshed_after(self, status: int) -> bool:
        """Read again if *status* is a refusal; return True if there are newer credentials than this thread used.

        Waits while another thread reads, and does not read twice within PAUSE_S.
        """
        if status not in REFUSED:
            return False
        with self._lock:
            if self._is_newest() and self._now() - self._read_at >= PAUSE_S:
                self._refresh()
            return not self._is_newest()

    def _is_newest(self) -> bool:
        given = getattr(self._given, "credentials", None)
        return self._current is not None and self._current.credentials == given

    def _is_due(self) -> bool:
        if self._current is None:
            return self._now() - self._read_at >= PAUSE_S
        return self._due_at is not None and self._now() >= self._due_at

    def _refresh(self) -> None:
        """Read the document; if that fails, keep the current credentials and try again after PAUSE_S."""
        try:
            self._current = parse(self._read(), service=self._service, origin=self._origin)
            self._problem = None
        except ConfigError as error:
            self._problem = error
        self._read_at = self._now()
        self._due_at = self._next_refresh()

    def _next_refresh(self) -> float | None:
        """Return the moment of the next read; None if only a refusal causes one."""
        if self._problem:
            return self._read_at + PAUSE_S
        if self._current is None or self._current.expires is None:
            return None
        left_s = (self._current.expires - self._clock.now()).total_seconds()
        return self._read_at + max(REFRESH_SHARE * left_s, left_s - REFRESH_AHEAD_S, PAUSE_S)

    def _now(self) -> float:
        return self._clock.monotonic()


def parse(document: bytes, *, service: Service, origin: str) -> ExpiringCredentials:
    """Return the credentials in *document*.

    Raises:
        ConfigError: The document has another form; the message quotes nothing of it.
    """
    try:
        raw: Any = json.loads(document)
        version, token, expiration = raw.get("Version", 1), raw.get("SessionToken"), raw.get("Expiration")
        key_id, secret = raw["AccessKeyId"], raw["SecretAccessKey"]
        expires = None if expiration is None else datetime.fromisoformat(expiration)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise ConfigError(f"{origin}: {EXPECTED_FORM}") from None  # the cause would quote the document
    if version != 1 or not all(isinstance(text, str) for text in (key_id, secret, token or "")):
        raise ConfigError(f"{origin}: {EXPECTED_FORM}")
    if expires is not None and expires.tzinfo is None:
        raise ConfigError(f"{origin}: Expiration has no time zone; end it with Z")
    credentials = Credentials(key_id=key_id, secret=secret, token=token or None)
    check_credentials(service, credentials)
    return ExpiringCredentials(credentials, expires)


def from_file(path: Path, origin: str) -> ReadDocument:
    """Return a function that reads *path*. The file must be replaced in one step: write another, and rename it."""

    def read() -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(MAX_DOCUMENT_BYTES)
        except OSError as error:
            raise ConfigError(f"{origin} {path} cannot be read: {error.strerror}") from error

    return read


def from_command(command: str, origin: str) -> ReadDocument:
    """Return a function that runs *command*, without a shell, and returns its stdout; its stderr is discarded.

    Raises:
        ConfigError: *command* is not a valid command line.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        raise ConfigError(f"{origin} is not a valid command line")
    return lambda: _run(words, origin)


def _run(words: list[str], origin: str) -> bytes:
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own command
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError(f"{origin} cannot be run: {error.strerror}") from error
    try:
        stdout, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{origin} printed no keys within {COMMAND_TIMEOUT_S:.0f} s and was killed") from None
    finally:
        _kill_group(process)
    if process.returncode:
        raise ConfigError(f"{origin} exited with {process.returncode}; run it by hand to see why")
    return stdout


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill all that the command started, and reap it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()
