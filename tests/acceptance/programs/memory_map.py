"""A table in a memory-mapped file, changed in place by stores that no file time shows.

Each page depends on the page before it, and is written before the count of steps. So the state of one instant can be
continued; a mixture of two instants cannot, and is noticed.

Usage: memory_map.py STEPS PAUSE_S
"""

import hashlib
import mmap
import os
import sys
import time
from pathlib import Path

PAGES, PAGE, STORE = 512, 4096, 512
steps, pause_s = int(sys.argv[1]), float(sys.argv[2])
path = Path(os.environ["HOLDFAST_CHECKPOINT_DIR"]) / "table"
if not path.exists():
    path.with_name("table.new").write_bytes(bytes((1 + PAGES) * PAGE))
    path.with_name("table.new").rename(path)
with path.open("r+b") as file:
    table = mmap.mmap(file.fileno(), 0)  # the first page holds the number of steps done


def start_of(place: int) -> int:
    """Return where the page at *place* starts; the pages form a ring."""
    return (1 + place % PAGES) * PAGE


done = int.from_bytes(table[:8], "big")
for place in range(PAGES):
    if place != done % PAGES:  # the next step's page may be half written; it is written again
        found = int.from_bytes(table[start_of(place) : start_of(place) + 8], "big")
        assert found == max(done - (done - 1 - place) % PAGES, 0), (
            f"after {done} steps, page {place} is of step {found}"
        )
for step in range(done + 1, steps + 1):
    before = table[start_of(step - 2) : start_of(step - 2) + PAGE]
    digest = hashlib.sha256(step.to_bytes(8, "big") + before).digest()
    page = (step.to_bytes(8, "big") + digest * (PAGE // 32))[:PAGE]
    for offset in range(0, PAGE, STORE):
        table[start_of(step - 1) + offset : start_of(step - 1) + offset + STORE] = page[offset : offset + STORE]
    table[:8] = step.to_bytes(8, "big")
    time.sleep(pause_s)
(Path(os.environ["HOLDFAST_OUTPUT_DIR"]) / "result").write_text(hashlib.sha256(table[PAGE:]).hexdigest())
