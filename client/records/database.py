"""The SQLite file in which copies of what the bucket holds are kept, or the same in memory."""

import hashlib
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

from client.config.composition import Environment

SCHEMA: Final = 2
PATIENCE_S: Final = 30.0  # another process changes the same copy

COLUMNS: Final = """
    key TEXT PRIMARY KEY,
    version TEXT NOT NULL,     -- as listed; empty: to be read again
    written_at REAL NOT NULL,  -- by this machine's clock
    job TEXT NOT NULL,
    state TEXT,
    lease_s REAL,              -- while it is owned
    share REAL,                -- of its steps that are done
    eta_s REAL,                -- when it was written
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
"""A statement, and the values of each time that it is to be carried out."""


class Database:
    """A connection; safe to use from several threads.

    Args:
        path: The file; None: in memory. One that cannot be used is made anew, or done without.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = Lock()
        self._db = _open(path)

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[Any]:
        """What a question is answered with."""
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def change(self, *changes: Changes) -> int:
        """Carry out all of *changes* or none; returns how many rows the last of them changed."""
        with self._lock, self._db:
            counts = [self._db.executemany(statement, values).rowcount for statement, values in changes]
        return counts[-1]

    def close(self) -> None:
        """Use it no more."""
        self._db.close()


def cache_path(env: Environment) -> Path | None:
    """Where the copy of a site's records is kept; None for the embedded default, whose records are here already."""
    settings = env.settings
    if not settings.is_cloud:
        return None
    whose = "\n".join((settings["CLOUDFLARE_URL"], settings["BUCKET"], settings["PREFIX"]))
    name = hashlib.sha256(whose.encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "holdfast", f"{name}.sqlite3")


def _open(path: Path | None) -> sqlite3.Connection:
    """The database, its tables made; in memory if the file cannot be used even when it is made anew."""
    for layout in (path, path, None) if path else (None,):
        try:
            if layout:
                layout.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return _connect(str(layout or ":memory:"))
        except (OSError, sqlite3.Error):
            if layout:
                with suppress(OSError):
                    layout.unlink()
    raise AssertionError("SQLite cannot work in memory")


def _connect(layout: str) -> sqlite3.Connection:
    db = sqlite3.connect(layout, timeout=PATIENCE_S, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")  # what is lost is read again
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
