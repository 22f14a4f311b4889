"""LocalQueue: a queue in a SQLite file, for any number of processes on one machine.

A message is visible from `visible_at` on, by the machine's wall clock, which all processes share. A receive is one
`BEGIN IMMEDIATE` transaction (https://www.sqlite.org/lang_transaction.html), so no two processes get the same delivery.
If a process dies, its messages become visible again when their time is over.
"""

import os
import secrets
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adapters.local.private_files import make_private, make_private_folder, open_private
from lifecycle.errors import ConfigError, RetryableError, reason_of
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import Delivery, Depth, JobQueue, Message, SendFailure

POLL_S: Final = 0.1  # between two looks for a message
BUSY_S: Final = 10.0  # how long a process waits for another's transaction
OPEN_POLL_S: Final = 0.02  # between two tries to create the tables
UNUSABLE: Final = frozenset(
    {sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_AUTH}
)

INHERITED: Final[list[sqlite3.Connection]] = []
"""Connections of a parent process, kept because the last reference closes one, which a forked child must not do."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    body TEXT NOT NULL,
    job TEXT NOT NULL,
    visible_at REAL NOT NULL,
    receipt TEXT,
    receives INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS by_visibility ON messages (visible_at, number);
CREATE TABLE IF NOT EXISTS dead (number INTEGER PRIMARY KEY, body TEXT NOT NULL, reason TEXT NOT NULL);
"""


class LocalQueue:
    """A queue in one file. Thread-safe.

    Args:
        path: The file; created if absent, with its folder.
        clock: Used for polling and visibility.

    Raises:
        ConfigError: The file cannot be created, or is not a SQLite database.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._connections = _Connections(path)
        weakref.finalize(self, self._connections.close)
        try:
            make_private_folder(path.parent)
            with open(path, "ab", opener=open_private):  # SQLite gives its other files the mode of this one
                make_private(path)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"the local queue {path} cannot be used: {reason_of(error)}") from error

    def receive(self, *, hidden: timedelta, wait: timedelta) -> Delivery | None:
        """See `JobQueue.receive`."""
        asked_at = self._clock.monotonic()
        deadline = asked_at + wait.total_seconds()
        while (delivery := self._take(hidden, asked_at)) is None:
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                return None
            self._clock.sleep(min(POLL_S, left_s))
            asked_at = self._clock.monotonic()
        return delivery

    def extend(self, delivery: Delivery, *, hidden: timedelta) -> bool:
        """See `JobQueue.extend`."""
        return self._set_visible_at(delivery, hidden, "receipt")

    def release(self, delivery: Delivery, *, delay: timedelta) -> None:
        """See `JobQueue.release`."""
        self._set_visible_at(delivery, delay, "NULL")

    def delete(self, delivery: Delivery) -> None:
        """See `JobQueue.delete`."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM messages WHERE receipt = ?", (delivery.receipt,))

    def send(self, messages: Sequence[Message]) -> list[SendFailure]:
        """See `JobQueue.send`."""
        now = self._now()
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO messages (body, job, visible_at) VALUES (?, ?, ?)",
                [(message.body, message.job, now) for message in messages],
            )
        return []

    def dead_letter(self, delivery: Delivery, *, reason: str) -> bool:
        """See `JobQueue.dead_letter`."""
        with self._transaction() as connection:
            connection.execute("INSERT INTO dead (body, reason) VALUES (?, ?)", (delivery.body, reason))
        return True

    def receive_limit(self) -> int | None:
        """See `JobQueue.receive_limit`."""
        return None

    def depth(self) -> Depth:
        """See `JobQueue.depth`."""
        with self._transaction() as connection:
            available, in_flight = connection.execute(
                "SELECT COALESCE(SUM(visible_at <= :now), 0), COALESCE(SUM(visible_at > :now), 0) FROM messages",
                {"now": self._now()},
            ).fetchone()
        return Depth(available, in_flight, 0)

    def purge(self) -> None:
        """See `JobQueue.purge`."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM messages")

    def _take(self, hidden: timedelta, asked_at: float) -> Delivery | None:
        now, receipt = self._now(), secrets.token_hex(16)
        with self._transaction() as connection:
            row = connection.execute(
                "UPDATE messages SET receipt = ?, receives = receives + 1, visible_at = ? WHERE number = "
                "(SELECT number FROM messages WHERE visible_at <= ? ORDER BY visible_at, number LIMIT 1) "
                "RETURNING number, body, receives",
                (receipt, now + hidden.total_seconds(), now),
            ).fetchone()
        if row is None:
            return None
        number, body, receives = row
        return Delivery(body, f"local-{number}", receipt, receives, asked_at)

    def _set_visible_at(self, delivery: Delivery, delay: timedelta, receipt: str) -> bool:
        with self._transaction() as connection:
            changed = connection.execute(
                f"UPDATE messages SET visible_at = ?, receipt = {receipt} WHERE receipt = ?",  # noqa: S608 - a constant
                (self._now() + delay.total_seconds(), delivery.receipt),
            )
        return changed.rowcount > 0

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _prepare(self) -> None:
        """Create the tables. SQLite's busy time-out does not cover the change to WAL, and workers start together."""
        deadline = self._clock.monotonic() + BUSY_S
        while True:
            try:
                with self._connections.borrow() as connection:
                    connection.execute("PRAGMA journal_mode = WAL")  # a property of the file
                    connection.executescript(SCHEMA)
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or self._clock.monotonic() >= deadline:
                    raise
                self._clock.sleep(OPEN_POLL_S)
            else:
                return

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._connections.borrow() as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.commit()
                except BaseException:
                    connection.rollback()
                    raise
        except sqlite3.Error as error:
            if _code(error) in UNUSABLE:
                raise ConfigError(f"the local queue {self._path} cannot be used: {error}") from error
            raise RetryableError(f"the local queue {self._path} failed: {error}") from error


class _Connections:
    """Connections to one file, each used by one thread at a time, and closed when the queue is dropped.

    They are kept by process: SQLite forbids a forked child to use its parent's connections, or even to close them
    (https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: dict[int, list[sqlite3.Connection]] = {}

    @contextmanager
    def borrow(self) -> Iterator[sqlite3.Connection]:
        """Yield an idle or a new connection; afterwards it is idle again, or closed if a transaction is left open."""
        idle = self._idle.setdefault(os.getpid(), [])
        try:
            connection = idle.pop()
        except IndexError:
            connection = self._open()
        try:
            yield connection
        finally:
            if connection.in_transaction:
                connection.close()
            else:
                idle.append(connection)

    def close(self) -> None:
        """Close this process's idle connections. Safe to call again."""
        idle = self._idle.pop(os.getpid(), [])
        while idle:
            idle.pop().close()
        INHERITED.extend(connection for others in self._idle.values() for connection in others)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; -1 if the error is Python's own."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else -1


if TYPE_CHECKING:

    def _conforms(queue: LocalQueue) -> JobQueue:
        return queue
