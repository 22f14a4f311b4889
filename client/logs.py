"""`holdfast logs JOB`: what the job's attempts did, one line for each thing; or what the workload wrote."""

import json
import re
import sys
from typing import Any, Final

from client.bootstrap import Site
from lifecycle.errors import PermanentError
from lifecycle.keys import is_job_id

FIXED: Final = ("at", "epoch", "node", "event")
EPOCH: Final = re.compile(r"/e(\d+)\.\w+$")


def run(site: Site, job: str, *, console: bool, epoch: int | None = None) -> int:
    """Print the log of every attempt, oldest first, or only of attempt *epoch*.

    Raises:
        PermanentError: There is no such job, or it has no log yet.
    """
    keys = site.place.job(job)
    if not is_job_id(job) or site.ledger.read(keys.record) is None:
        raise PermanentError(f"there is no job {job!r} under prefix {site.place.prefix!r}")
    ending = ".txt" if console else ".jsonl"
    found = sorted(
        (_epoch(listed.key), listed.key) for listed in site.store.list(keys.logs) if listed.key.endswith(ending)
    )
    if not found:
        raise PermanentError(f"{job} has no log yet: one is stored with each checkpoint, and at an attempt's end")
    chosen = [(number, key) for number, key in found if epoch in {None, number}]
    if not chosen:
        raise PermanentError(f"{job} has no log of attempt {epoch}, only of {', '.join(str(n) for n, _ in found)}")
    for number, key in chosen:
        stored = site.store.get(key)
        body = stored.body.decode(errors="replace") if stored else ""
        if console:
            print(f"--- attempt {number} ---")
            sys.stdout.write(body if body.endswith("\n") else f"{body}\n")
        else:
            for line in body.splitlines():
                print(_readable(line))
    return 0


def _readable(line: str) -> str:
    try:
        entry: dict[str, Any] = json.loads(line)
        at, epoch, node, event = (entry[name] for name in FIXED)
    except (ValueError, KeyError, TypeError):
        return line
    facts = "  ".join(f"{name}={value}" for name, value in entry.items() if name not in FIXED and value is not None)
    return f"{at}  e{epoch}  {node}  {event}  {facts}".rstrip()


def _epoch(key: str) -> int:
    found = EPOCH.search(key)
    return int(found[1]) if found else 0
