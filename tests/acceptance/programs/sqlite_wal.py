"""A ledger in SQLite, in WAL mode, with a commit per step: some two hundred a second, and never a quiet moment.

Usage: sqlite_wal.py STEPS PAUSE_S
"""

import hashlib
import os
import sqlite3
import sys
import time
from pathlib import Path

steps, pause_s = int(sys.argv[1]), float(sys.argv[2])
database = sqlite3.connect(Path(os.environ["HOLDFAST_CHECKPOINT_DIR"]) / "ledger.db", isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE IF NOT EXISTS ledger (step INTEGER PRIMARY KEY, digest TEXT NOT NULL)")
assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
step, digest = database.execute("SELECT step, digest FROM ledger ORDER BY step DESC").fetchone() or (0, "")
assert step == database.execute("SELECT count(*) FROM ledger").fetchone()[0]
while step < steps:
    step += 1
    digest = hashlib.sha256(f"{step} {digest}".encode()).hexdigest()
    database.execute("INSERT INTO ledger VALUES (?, ?)", (step, digest))
    time.sleep(pause_s)
(Path(os.environ["HOLDFAST_OUTPUT_DIR"]) / "result").write_text(digest)
