"""A large file that is rewritten in place, block after block, round after round.

A block depends on the block before it, and is written before the count of steps. So the state of one instant can be
continued; a mixture of two instants cannot, and is noticed.

Usage: in_place.py STEPS PAUSE_S MIB
"""

import hashlib
import os
import sys
import time
from pathlib import Path

BLOCK = 1 << 20
steps, pause_s, blocks = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
folder = Path(os.environ["HOLDFAST_CHECKPOINT_DIR"])
count = folder / "steps"
if not count.exists():
    (folder / "field").write_bytes(b"")
    os.truncate(folder / "field", blocks * BLOCK)
    count.write_text("0")
done = int(count.read_text())
with (folder / "field").open("r+b", buffering=0) as field:

    def block_at(place: int) -> bytes:
        """Return a block; the blocks form a ring."""
        return os.pread(field.fileno(), BLOCK, place % blocks * BLOCK)

    for place in range(blocks):
        if place != done % blocks:  # the next step's block may be half written; it is written again
            found = int.from_bytes(block_at(place)[:8], "big")
            assert found == max(done - (done - 1 - place) % blocks, 0), (
                f"after {done}, block {place} is of step {found}"
            )
    for step in range(done + 1, steps + 1):
        digest = hashlib.sha256(step.to_bytes(8, "big") + block_at(step - 2)).digest()
        block = step.to_bytes(8, "big") + hashlib.shake_256(digest).digest(BLOCK - 8)
        os.pwrite(field.fileno(), block, (step - 1) % blocks * BLOCK)
        (folder / "steps.new").write_text(str(step))
        (folder / "steps.new").rename(count)
        time.sleep(pause_s)
    result = hashlib.sha256()
    for place in range(blocks):
        result.update(block_at(place))
(Path(os.environ["HOLDFAST_OUTPUT_DIR"]) / "result").write_text(result.hexdigest())
