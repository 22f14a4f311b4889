"""Preflight check: does the bucket honour conditional writes?

All of Holdfast rests on them, and some stores accept a condition, ignore it and answer OK. So a worker tries them on
temporary keys before it takes its first job. What R2 and S3 promise:
https://developers.cloudflare.com/r2/api/s3/conditional-operations/ and
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html.
"""

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
from lifecycle.structured_log import StructuredLogger

T = TypeVar("T")

TRIES: Final = 5
PAUSE_S: Final = 1.2  # R2 accepts one write a second to a key: https://developers.cloudflare.com/r2/platform/limits/
ORPHAN_S: Final = 3600.0  # a key this old belongs to a check that was killed, or whose write arrived after its end

log = StructuredLogger("holdfast.preflight")


def check_conditional_writes(store: ObjectStore, *, prefix: str, token: str, clock: Clock) -> None:
    """Check that *store* refuses a put whose condition does not hold, and accepts one whose condition does.

    Writes a few keys and removes them again, also when the check fails. Safe to repeat.

    Args:
        store: The store, wrapped or not.
        prefix: Prefix for temporary keys, with a slash at its end.
        token: Text that no other check uses, running or past; ASCII, valid in a key.
        clock: For pauses between retries.

    Raises:
        ConfigError: The store ignores, refuses or misunderstands conditions; no job is safe in it.
        RetryableError: The store did not answer, so nothing is known.
    """
    _PreflightCheck(store, prefix, token, clock).run()


class _UnexpectedConflictError(RetryableError):
    """The store refused a condition that holds. Once proves nothing; every time, it cannot be used."""


class _PreflightCheck:
    """One check, which remembers the keys that it has to remove."""

    def __init__(self, store: ObjectStore, prefix: str, token: str, clock: Clock) -> None:
        self._store = store
        self._prefix = prefix
        self._stem = f"{prefix}{token}"
        self._clock = clock
        self._keys: list[str] = []

    def run(self) -> None:
        try:
            first, version = self._create()
            second, current = self._create()
            self._must_conflict(first, ABSENT, "took a second `If-None-Match: *` on one key")
            self._must_conflict(second, version, "took an `If-Match` of another version")
            self._must_succeed(second, current)
        except _UnexpectedConflictError as error:
            raise ConfigError(str(error)) from error
        except PermanentError as error:
            raise ConfigError(
                f"this bucket does not take conditional writes, on which everything rests: {error}"
            ) from error
        finally:
            self._clean_up()

    def _create(self) -> tuple[str, Version]:
        """Create a key; another one at each try, because a try that failed may have created its key after all."""

        def create() -> tuple[str, Version]:
            key = f"{self._stem}-{len(self._keys)}"
            self._keys.append(key)
            try:
                return key, self._store.put(key, key.encode(), expected=ABSENT)
            except VersionConflictError as error:
                raise _UnexpectedConflictError(
                    f"this bucket refuses to make the new key {key} with `If-None-Match: *`"
                ) from error

        return self._retried(create)

    def _must_conflict(self, key: str, expected: Version | Absent, what: str) -> None:
        def attempt() -> None:
            try:
                self._store.put(key, f"{key} must not be".encode(), expected=expected)
            except VersionConflictError:
                return
            raise ConfigError(
                f"this bucket ignores conditional writes ({what}): two workers would own one job; use R2 or S3"
            )

        self._retried(attempt)

    def _must_succeed(self, key: str, expected: Version) -> None:
        body = f"{key} again".encode()

        def attempt() -> Version:
            try:
                return self._store.put(key, body, expected=expected)
            except VersionConflictError as error:
                found = self._store.get(key)
                if found is None or found.body != body:  # otherwise an earlier try landed and its answer was lost
                    raise _UnexpectedConflictError(
                        "this bucket refuses an `If-Match` of the current version; a store that wants it without "
                        "quotes, as Ceph's does, cannot be used"
                    ) from error
                return found.version

        written = self._retried(attempt)
        found = self._retried(lambda: self._store.get(key))
        if found is None or found.version != written:
            raise ConfigError("this bucket reads back another version than the one it wrote: each write would conflict")

    def _retried(self, call: Callable[[], T]) -> T:
        """Repeat *call* while it is retryable: an answer like "too many requests" says nothing about conditions."""
        for _ in range(TRIES - 1):
            try:
                return call()
            except RetryableError as error:
                log.info("preflight.retried", error=str(error))
                self._clock.sleep(PAUSE_S)
        return call()

    def _clean_up(self) -> None:
        """Remove the keys of this check, and those that earlier checks could not remove."""
        try:
            self._store.delete(self._keys)
            orphans = [
                listed.key
                for listed in self._store.list(self._prefix)
                if listed.age_s is not None and listed.age_s > ORPHAN_S
            ]
            if orphans:
                self._store.delete(orphans)
        except HoldfastError as error:  # the verdict of the check itself matters more
            log.warning("preflight.cleanup_failed", keys=", ".join(self._keys), error=str(error))
