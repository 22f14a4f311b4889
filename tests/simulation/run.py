"""Plays histories: `make soak SEEDS=0:100000`, or `PYTHONPATH=tests python -m simulation.run --seeds 0:3000`.

Prints a summary. A history that breaks an invariant is shrunk to as few faults as possible and printed as a timeline;
the exit code is then 1.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from attrs import evolve
from simulation import mutants
from simulation.history import HistoryResult, play

import lifecycle.attempt.supervisor

AT_A_TIME: Final = 50
SILENT: Final = logging.CRITICAL
MEMORY_DISK: Final = Path("/dev/shm")  # noqa: S108 - nodes' disks of histories, in a directory of our own


def main(words: list[str] | None = None) -> int:
    """Play the histories that the command line names."""
    parser = argparse.ArgumentParser(prog="simulation.run", description=__doc__)
    parser.add_argument("--seeds", default="0:3000", help="FROM:TO, or one seed, which is printed whole")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--mutant", help="play against a deliberate bug, until it is found")
    parser.add_argument("--as-found", action="store_true", help="do not shrink the history that breaks an invariant")
    args = parser.parse_args(words)
    first, _, last = args.seeds.partition(":")
    prepare(args.mutant)
    with scratch() as root:
        if not last:
            print(play(int(first), root).timeline())
            return 0
        began = time.monotonic()
        counts: Counter[str] = Counter()
        bad = None
        for outcome in outcomes(int(first), int(last), args.processes, args.mutant, root):
            counts += outcome.counts
            counts["histories"] += 1
            counts["events"] += outcome.events
            if outcome.violation:
                bad = outcome
                break
        summary: dict[str, Any] = {"seconds": round(time.monotonic() - began, 1), **dict(sorted(counts.items()))}
        if bad is not None:
            small = bad if args.as_found else shrink(bad, root)
            summary |= {"seed": bad.seed, "invariant": small.invariant, "faults": len(small.faults)}
            print(small.timeline())
        print(json.dumps(summary))
    return int(bad is not None)


def prepare(mutant: str | None) -> None:
    """Set coarse ticks, silence the log, and install a bug if one is given; once per process."""
    logging.disable(SILENT)
    lifecycle.attempt.supervisor.TICK_S = 1.0  # type: ignore[misc] # virtual time needs no fine ticks
    if mutant:
        mutants.install(mutant)


def outcomes(first: int, last: int, processes: int, mutant: str | None, root: Path) -> Iterator[HistoryResult]:
    """Yield the results of the seeds from *first* to before *last*, in order."""
    if processes == 1:
        yield from (play(seed, root) for seed in range(first, last))
        return
    starts = range(first, last, AT_A_TIME)
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=prepare, initargs=(mutant,)) as pool:
        for batch in pool.map(_batch, starts, [last] * len(starts), [root] * len(starts)):
            yield from batch


def _batch(start: int, last: int, root: Path) -> list[HistoryResult]:
    return [_light(play(seed, root)) for seed in range(start, min(start + AT_A_TIME, last))]


def _light(outcome: HistoryResult) -> HistoryResult:
    """Drop the events of a result without a violation, since they are costly to send between processes."""
    return outcome if outcome.violation else evolve(outcome, history=())


def shrink(found: HistoryResult, root: Path) -> HistoryResult:
    """Return a history with the same violation and fewer faults, leaving out each in turn while that succeeds."""
    smaller = True
    while smaller:
        smaller = False
        for left_out in range(len(found.faults)):
            fewer = found.faults[:left_out] + found.faults[left_out + 1 :]
            outcome = play(found.seed, root, fewer)
            if outcome.invariant == found.invariant:
                found, smaller = outcome, True
                break
    return found


class scratch:  # noqa: N801 - used like a function
    """A temporary directory, in memory if possible."""

    def __enter__(self) -> Path:
        layout = MEMORY_DISK if os.access(MEMORY_DISK, os.W_OK) else None
        self._path = Path(tempfile.mkdtemp(prefix="holdfast-simulation-", dir=layout))
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
