"""Short-lived keys: read from a file or a command, again before they expire, and at once when a service refuses them.

The JSON is that of AWS's `credential_process`, which many tools write:
https://docs.aws.amazon.com/cli/latest/topic/config-vars.html#sourcing-credentials-from-external-processes

botocore's own `RefreshableCredentials` is not used: it raises, in whatever thread asks, when what it is given has
expired, waits for a command without a limit, and logs what that said on stderr. Here a key that cannot be renewed is
used on: the service's refusal is an error that everything above is made for.
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

from adapters.aws.clients import Credentials, check_keys
from adapters.aws.error_mapping import Service
from lifecycle.errors import ConfigError
from lifecycle.ports.clock import Clock

COMMAND_S: Final = 10.0  # a heartbeat may have to wait for it
LONGEST: Final = 1 << 16  # bytes of a file
AHEAD_S: Final = 300.0  # so long before they expire, keys are read again,
SHARE: Final = 0.75  # or when so much of the time that is left is over, if that is later
PAUSE_S: Final = 2.0  # at least between two readings
REFUSALS: Final = frozenset({401, 403})  # HTTP: R2 and SQS have many names for it


@frozen
class Keys:
    """Keys as read; *expires* is None where it was not said."""

    credentials: Credentials
    expires: datetime | None


Read = Callable[[], bytes]


class RenewedCredentials(BotocoreCredentials):
    """Keys that are read again. Thread-safe; a thread that needs keys while another reads them has the ones before.

    Args:
        read: Reads the document; raises `ConfigError`.
        service: Whose they are, for messages.
        origin: The setting that names the file or the command, for messages.
        clock: Tells when keys expire.
    """

    method = "holdfast"

    def __init__(self, read: Read, *, service: Service, origin: str, clock: Clock) -> None:
        self._read = read
        self._service = service
        self._origin = origin
        self._clock = clock
        self._lock = threading.Lock()
        self._given = threading.local()
        self._keys: Keys | None = None
        self._problem: ConfigError | None = None
        self._read_at = -PAUSE_S
        self._due_at: float | None = None

    @property
    def origin(self) -> str:
        """The setting that names where they come from."""
        return self._origin

    def current(self) -> Keys:
        """Those to use now, read again if that is due.

        Raises:
            ConfigError: There are none, and none could be read.
        """
        if self._is_due() and self._lock.acquire(blocking=self._keys is None):
            try:
                if self._is_due():
                    self._renew()
            finally:
                self._lock.release()
        if self._keys is None:
            raise self._problem or ConfigError(f"{self._origin}: no keys yet")
        return self._keys

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Those to sign a call with, as botocore asks for them.

        Raises:
            ConfigError: See `current`.
        """
        keys = self.current().credentials
        self._given.keys = keys
        return ReadOnlyCredentials(keys.key_id, keys.secret, keys.token)

    def renewed_after(self, status: int) -> bool:
        """Whether there are other keys than those that this thread got last, which were answered with *status*.

        They are read again, if that was an HTTP refusal, and not just done. Waits while another thread does that.
        """
        if status not in REFUSALS:
            return False
        with self._lock:
            if self._is_current() and self._now() - self._read_at >= PAUSE_S:
                self._renew()
            return not self._is_current()

    def _is_current(self) -> bool:
        return self._keys is not None and self._keys.credentials == getattr(self._given, "keys", None)

    def _is_due(self) -> bool:
        if self._keys is None:
            return self._now() - self._read_at >= PAUSE_S
        return self._due_at is not None and self._now() >= self._due_at

    def _renew(self) -> None:
        """Read; if that cannot be done, stay with what there is, for a while."""
        try:
            self._keys = parse(self._read(), service=self._service, origin=self._origin)
            self._problem = None
        except ConfigError as error:
            self._problem = error
        self._read_at = self._now()
        self._due_at = self._next()

    def _next(self) -> float | None:
        """When to read again; None: when they are refused."""
        if self._problem:
            return self._read_at + PAUSE_S
        if self._keys is None or self._keys.expires is None:
            return None
        left_s = (self._keys.expires - self._clock.now()).total_seconds()
        return self._read_at + max(SHARE * left_s, left_s - AHEAD_S, PAUSE_S)

    def _now(self) -> float:
        return self._clock.monotonic()


def parse(document: bytes, *, service: Service, origin: str) -> Keys:
    """The keys in a document.

    Raises:
        ConfigError: It has none; the message says nothing of what is in it.
    """
    try:
        raw: Any = json.loads(document)
        version, token, expiration = raw.get("Version", 1), raw.get("SessionToken"), raw.get("Expiration")
        key_id, secret = raw["AccessKeyId"], raw["SecretAccessKey"]
        expires = None if expiration is None else datetime.fromisoformat(expiration)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise ConfigError(f"{origin}: {FORM}") from None  # the cause would show what was read
    if version != 1 or not all(isinstance(text, str) for text in (key_id, secret, token or "")):
        raise ConfigError(f"{origin}: {FORM}")
    if expires is not None and expires.tzinfo is None:
        raise ConfigError(f"{origin}: Expiration has no time zone; end it with Z")
    credentials = Credentials(key_id=key_id, secret=secret, token=token or None)
    check_keys(service, credentials)
    return Keys(credentials, expires)


FORM: Final = (
    'not JSON like {"Version": 1, "AccessKeyId": "…", "SecretAccessKey": "…", "SessionToken": "…", '
    '"Expiration": "2030-01-01T00:00:00Z"}'
)


def from_file(path: Path, origin: str) -> Read:
    """Reads a file, which whoever renews it replaces in one step (writes another, and renames it)."""

    def read() -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(LONGEST)
        except OSError as error:
            raise ConfigError(f"{origin} {path} cannot be read: {error.strerror}") from error

    return read


def from_command(command: str, origin: str) -> Read:
    """Runs a command, without a shell, and takes what it writes to stdout; what it writes to stderr is nobody's.

    Raises:
        ConfigError: It is no command line.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        raise ConfigError(f"{origin} is no command line")

    def read() -> bytes:
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError(f"{origin} cannot be run: {error.strerror}") from error
        try:
            said, _ = process.communicate(timeout=COMMAND_S)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"{origin} gave no keys within {COMMAND_S:.0f} s, and was ended") from None
        finally:
            _end(process)
        if process.returncode:
            raise ConfigError(f"{origin} ended with {process.returncode}; run it by hand to see why")
        return said

    return read


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Leave nothing of it running, nor waiting for it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()
