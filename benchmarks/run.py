"""`make bench`: measure, and print a table. Ratios compare within one run; absolute figures depend on the machine.

Usage: python benchmarks/run.py [PART…]

The parts are: capturing dashboard listing saving slowdown small startup submitting working
"""

import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import capturing
import dashboard
import listing
import saving
import slowdown
import small
import startup
import submitting
import working
from harness import Row
from rich.console import Console
from rich.table import Table

PARTS: Final[dict[str, Callable[[], Iterator[Row]]]] = {
    "capturing": capturing.measure,
    "dashboard": dashboard.measure,
    "listing": listing.measure,
    "saving": saving.measure,
    "slowdown": slowdown.measure,
    "small": small.measure,
    "startup": startup.measure,
    "submitting": submitting.measure,
    "working": working.measure,
}


def main(names: Sequence[str]) -> int:
    """Measure the named parts, or all.

    Returns:
        0 if every target is met, 1 if one is missed, 2 for an unknown name.
    """
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"unknown part {unknown[0]!r}: use {', '.join(PARTS)}", file=sys.stderr)
        return 2
    print(machine())
    rows = [row for name in names or PARTS for row in PARTS[name]()]
    table = Table("measurement", "result", "comparison", "target", "")
    for row in rows:
        table.add_row(row.what, row.value, row.comparison, row.target, verdict(row))
    Console(width=None if sys.stdout.isatty() else 140, markup=False).print(table)
    return int(not all(row.is_met for row in rows))


def verdict(row: Row) -> str:
    """Return "met" or "MISSED", or nothing for a row without a target."""
    if not row.target:
        return ""
    return "met" if row.is_met else "MISSED"


def machine() -> str:
    """Describe this machine in one line."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load = os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0))} cores, {model}; {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, boto3 {version('boto3')}; load {load:.1f}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
