"""`make bench`: measure, and print a table. Ratios are of one run; absolute figures are this machine's.

Usage: python benchmarks/run.py [dashboard] [felt] [listing] [saving] [small] [startup] [submitting] [working]
"""

import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import dashboard
import felt
import listing
import saving
import small
import startup
import submitting
import working
from harness import Row
from rich.console import Console
from rich.table import Table

PARTS: Final[dict[str, Callable[[], Iterator[Row]]]] = {
    "dashboard": dashboard.measure,
    "felt": felt.measure,
    "listing": listing.measure,
    "saving": saving.measure,
    "small": small.measure,
    "startup": startup.measure,
    "submitting": submitting.measure,
    "working": working.measure,
}


def main(names: Sequence[str]) -> int:
    """Measure the parts that are named, or all.

    Returns:
        0 if every target is met, 1 if one is not, 2 for a name that is none.
    """
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"there is no {unknown[0]!r}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    print(machine())
    rows = [row for name in names or PARTS for row in PARTS[name]()]
    table = Table("what", "measured", "beside it", "target", "")
    for row in rows:
        table.add_row(row.what, row.value, row.beside, row.target, verdict(row))
    Console(width=None if sys.stdout.isatty() else 140, markup=False).print(table)
    return int(not all(row.is_met for row in rows))


def verdict(row: Row) -> str:
    """Whether the target is met, in a word."""
    if not row.target:
        return ""
    return "met" if row.is_met else "MISSED"


def machine() -> str:
    """What this was measured on, in a line."""
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
