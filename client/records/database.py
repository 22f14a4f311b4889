"""The SQLite database of the record index and the archive index, in a file or in memory."""

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

from adapters.local.private_files import make_private, make_private_folder, open_private
from client.config.environment import Environment

SCHEMA: Final = 2
BUSY_TIMEOUT_S: Final = 30.0  # while another process changes the same file

COLUMNS: Final = """
    key TEXT PRIMARY KEY,
    version TEXT NOT NULL,     -- as listed; empty: read again at the next refresh
    written_at REAL NOT NULL,  -- by this machine's clock
    job TEXT NOT NULL,
    state TEXT,
    lease_s REAL,              -- NULL unless the job is owned
    share REAL,                -- share of the work that is done
    eta_s REAL,                -- as of written_at
    labels TEXT NOT NULL,
    body BLOB,
    problem TEXT"""
TABLES: Final = {
    "jobs": (
        f"CREATE TABLE jobs ({COLUMNS})",
        "CREATE INDEX versions ON jobs (key, version, written_at)",
        "CREATE INDEX states ON jobs (state, lease_s, written_at)",
        "CREATE INDEX problems ON jobs (job) WHERE problem IS NOT NULL",
    ),
    "archived": (f"CREATE TABLE archived ({COLUMNS}, segment TEXT, offset INTEGER, length INTEGER, line INTEGER)",),
    "segments": ("CREATE TABLE segments (key TEXT PRIMARY KEY)",),
}

Changes = tuple[str, Sequence[Sequence[Any] | Mapping[str, Any]]]
"""A statement, and the values for each of its executions."""


class Database:
    """A thread-safe connection.

    Args:
        path: The file; None: in memory. An unusable file is replaced; if that fails too, memory is used.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = Lock()
        self._db = _open(path)

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[Any]:
        """Return all rows of a SELECT."""
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def change(self, *changes: Changes) -> int:
        """Execute *changes* in one transaction, and return the number of rows that the last of them changed."""
        with self._lock, self._db:
            counts = [self._db.executemany(statement, values).rowcount for statement, values in changes]
        return counts[-1]

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


def cache_path(env: Environment) -> Path | None:
    """Return the file of the record index; None without a cloud queue, as the records are local files then."""
    settings = env.settings
    if not settings.is_cloud:
        return None
    identity = f"{settings.store_url}\n{settings.bucket}\n{settings.prefix}"
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return settings.host.cache_dir / "holdfast" / f"{name}.sqlite3"


def _open(path: Path | None) -> sqlite3.Connection:
    """Open the database and create its tables; fall back to a new file, then to memory."""
    for file in (path, path, None) if path else (None,):
        try:
            if file:
                make_private_folder(file.parent)
                with open(file, "ab", opener=open_private):
                    make_private(file)
            return _connect(str(file or ":memory:"))
        except (OSError, sqlite3.Error):
            if file:
                with suppress(OSError):
                    file.unlink()
    raise AssertionError("SQLite cannot work in memory")


def _connect(file: str) -> sqlite3.Connection:
    db = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")  # rows lost in a crash are read again from the bucket
        with db:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                for table, statements in TABLES.items():
                    db.execute(f"DROP TABLE IF EXISTS {table}")
                    for statement in statements:
                        db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA}")
    except BaseException:
        db.close()
        raise
    return db
