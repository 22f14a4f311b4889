"""The canary: proof, on a throw-away key, that a bucket honours conditional writes.

Everything rests on them, and there are stores that take a condition, ignore it, and answer OK. So a worker sends the
canary in before it takes its first job.
"""

import logging
from collections.abc import Callable
from typing import Final, TypeVar

from lifecycle.errors import (
    ConfigError,
    HoldfastError,
    PermanentError,
    RetryableError,
    VersionConflictError,
)
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ABSENT, Absent, ObjectStore, Version

T = TypeVar("T")

TRIES: Final = 5
PAUSE_S: Final = 1.2  # R2 takes one write a second to a key

log = logging.getLogger("holdfast.canary")


def check_conditional_writes(store: ObjectStore, *, prefix: str, token: str, clock: Clock) -> None:
    """Prove that *store* refuses a put whose condition does not hold, and takes one whose condition does.

    Writes two keys or a few more, and removes them, also when it fails. Safe to repeat.

    Args:
        store: The store, wrapped or not.
        prefix: Where keys may be thrown away, with its slash.
        token: Unlike that of any other call, running or past; ASCII, fit for a key.
        clock: For the pauses.

    Raises:
        ConfigError: The store ignores, refuses or misunderstands conditions; no job is safe in it.
        RetryableError: It could not be found out.
    """
    _Canary(store, f"{prefix}{token}", clock).fly()


class _Canary:
    """One proof; remembers what it must remove."""

    def __init__(self, store: ObjectStore, stem: str, clock: Clock) -> None:
        self._store = store
        self._stem = stem
        self._clock = clock
        self._made: list[str] = []

    def fly(self) -> None:
        try:
            first, version = self._create()
            second, fresh = self._create()
            self._must_conflict(first, ABSENT, "took a second `If-None-Match: *` on one key")
            self._must_conflict(second, version, "took an `If-Match` of another version")
            self._must_succeed(second, fresh)
        except PermanentError as error:
            raise ConfigError(
                f"this bucket does not take conditional writes, which everything rests on: {error}"
            ) from error
        finally:
            self._clean()

    def _create(self) -> tuple[str, Version]:
        """Make a new key; a new one at each try, since one that failed may be there."""

        def create() -> tuple[str, Version]:
            key = f"{self._stem}-{len(self._made)}"
            self._made.append(key)
            try:
                return key, self._store.put(key, key.encode(), expected=ABSENT)
            except VersionConflictError as error:
                raise ConfigError(f"this bucket refuses to make the new key {key} with `If-None-Match: *`") from error

        return self._patiently(create)

    def _must_conflict(self, key: str, expected: Version | Absent, what: str) -> None:
        def attempt() -> None:
            try:
                self._store.put(key, f"{key} must not be".encode(), expected=expected)
            except VersionConflictError:
                return
            raise ConfigError(
                f"this bucket ignores conditional writes ({what}): two workers would own one job; use R2 or S3"
            )

        self._patiently(attempt)

    def _must_succeed(self, key: str, expected: Version) -> None:
        body = f"{key} again".encode()

        def attempt() -> Version:
            try:
                return self._store.put(key, body, expected=expected)
            except VersionConflictError as error:
                found = self._store.get(key)
                if found is None or found.body != body:  # else an earlier try landed, and its answer was lost
                    raise ConfigError(
                        "this bucket refuses an `If-Match` of the current version; a store that wants it without "
                        "quotes, as Ceph's does, cannot be used"
                    ) from error
                return found.version

        written = self._patiently(attempt)
        found = self._patiently(lambda: self._store.get(key))
        if found is None or found.version != written:
            raise ConfigError("this bucket reads back another version than the one it wrote: each write would conflict")

    def _patiently(self, call: Callable[[], T]) -> T:
        """Make *call* again for as long as the store will not say: "too many requests" proves nothing."""
        for _ in range(TRIES - 1):
            try:
                return call()
            except RetryableError as error:
                log.info("the canary waits: %s", error)
                self._clock.sleep(PAUSE_S)
        return call()

    def _clean(self) -> None:
        try:
            self._store.delete(self._made)
        except HoldfastError as error:  # what the proof itself found matters more
            log.warning("left behind: %s: %s", ", ".join(self._made), error)
