"""A trainer that keeps its two newest checkpoints in folders, a link to the last one, and a log beside them.

The log gets a line per step, so the files are never all quiet. The resumed one needs the folder that the link names.

Usage: checkpoint_folders.py STEPS PAUSE_S
"""

import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

EVERY = 10
steps, pause_s = int(sys.argv[1]), float(sys.argv[2])
folder = Path(os.environ["HOLDFAST_CHECKPOINT_DIR"])
last = folder / "last"
step, digest = 0, ""
if last.is_symlink():
    step, digest = json.loads((last / "trainer_state.json").read_text())
    assert (last / "model.bin").read_bytes() == hashlib.shake_256(digest.encode()).digest(1 << 20)
with (folder / "train.log").open("a") as log:
    while step < steps:
        step += 1
        digest = hashlib.sha256(f"{step} {digest}".encode()).hexdigest()
        print(f"step {step}: {digest[:8]}", file=log, flush=True)
        time.sleep(pause_s)
        if step % EVERY:
            continue
        new, name = folder / "tmp-checkpoint", folder / f"checkpoint-{step}"
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(name, ignore_errors=True)
        new.mkdir()
        (new / "model.bin").write_bytes(hashlib.shake_256(digest.encode()).digest(1 << 20))
        (new / "trainer_state.json").write_text(json.dumps([step, digest]))
        new.rename(name)
        (folder / "last.new").symlink_to(name.name)
        (folder / "last.new").rename(last)
        shutil.rmtree(folder / f"checkpoint-{step - 2 * EVERY}", ignore_errors=True)
(Path(os.environ["HOLDFAST_OUTPUT_DIR"]) / "result").write_text(digest)
