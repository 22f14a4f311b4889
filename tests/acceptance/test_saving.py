"""Each row of "Which program, which setting" in docs/workloads.md: a real program, killed again and again.

Each program checks the state that it finds. If its parts do not belong together, it says so and fails.
"""

import textwrap
from pathlib import Path

import pytest
from attrs import frozen
from support.process_cluster import ProcessCluster

from lifecycle.checkpoint.manifest import Quality
from lifecycle.checkpoint.restore import fetch_manifest
from lifecycle.job_record import JobRecord
from lifecycle.states import State

pytestmark = pytest.mark.acceptance

SETTINGS = 'quiet = "0.3s"\nexit_codes = { "0" = "done" }\n'
START = """
    import json, mmap, os, sqlite3, struct, subprocess, sys, time
    folder = os.environ["HOLDFAST_CHECKPOINT_DIR"] + "/"
    resumed = os.environ["HOLDFAST_RESUMED"] == "1"
    def done(step):
        with open("output/steps", "a") as file:
            file.write("%d\\n" % step)
        sys.exit(0)
    last = int(os.environ["HOLDFAST_ATTEMPT"]) > 1
"""
ANNOUNCES = """
    import holdfast
    job = holdfast.job()
    step = int(open(job.checkpoint_dir + "/state").read()) if job.resumed else 0
    if last:
        done(step)
    while True:
        step += 1
        time.sleep(0.05)
        if job.checkpoint_due():
            with job.checkpoint(step=step) as directory:
                with open(directory + "/state", "w") as file:
                    file.write(str(step))
"""
REPLACES = """
    step = int(open(folder + "state").read()) if resumed else 0
    if last:
        done(step)
    while True:
        step += 1
        with open(folder + "part", "w") as file:
            file.write(str(step))
        os.rename(folder + "part", folder + "state")
        time.sleep(1.5)
"""
IN_PLACE = """
    size = 1 << 20
    step = 0
    if resumed:
        with open(folder + "state.json") as file:
            state = json.load(file)
        step = state["step"]
        if state["again"] != step or len(state["fill"]) != size:
            sys.exit("torn")
    if last:
        done(step)
    while True:
        step += 1
        with open(folder + "state.json", "w") as file:  # a JSON file rewritten in place
            json.dump({"step": step, "fill": "x" * size, "again": step}, file)
        time.sleep(0.2)
"""
MAPS = """
    size = 8 << 20
    name = folder + "state.mm"
    if not resumed:
        with open(name, "wb") as file:
            file.truncate(size)
    memory = mmap.mmap(os.open(name, os.O_RDWR), size)
    step, again = struct.unpack("<q", memory[:8])[0], struct.unpack("<q", memory[-8:])[0]
    if step not in (again, again + 1):  # the head is written first
        sys.exit("torn: %d and %d" % (step, again))
    if last:
        done(step)
    while True:
        step += 1
        memory[:8] = struct.pack("<q", step)
        memory[-8:] = struct.pack("<q", step)
        if step % 2000 == 0:
            time.sleep(0.001)
"""
SQLITE = """
    base = sqlite3.connect(folder + "state.db", isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("CREATE TABLE IF NOT EXISTS sums (step INTEGER PRIMARY KEY, total INTEGER)")
    if base.execute("PRAGMA integrity_check").fetchone() != ("ok",):
        sys.exit("torn")
    step, total = base.execute("SELECT step, total FROM sums ORDER BY step DESC").fetchone() or (0, 0)
    if total != step * (step + 1) // 2 or base.execute("SELECT count(*) FROM sums").fetchone()[0] != step:
        sys.exit("rows are missing")
    if last:
        done(step)
    while True:
        step += 1
        total += step
        base.execute("INSERT INTO sums VALUES (?, ?)", (step, total))
        time.sleep(0.005)
"""
APPENDS = """
    step = int(open(folder + "state").read()) if resumed else 0
    log = open("output/steps.log", "a")
    if resumed:
        log.truncate(9 * step)  # to what the state records
        if os.path.getsize("output/steps.log") != 9 * step:
            sys.exit("the log is behind the state")
    if last:
        done(step)
    while True:
        step += 1
        log.write("%08d\\n" % step)
        log.flush()
        if step % 10 == 0:
            with open(folder + "part", "w") as file:
                file.write(str(step))
            os.rename(folder + "part", folder + "state")
            time.sleep(0.6)
        time.sleep(0.02)
"""
CHATTY = """
    os.makedirs(folder + "runs", exist_ok=True)
    found = sorted(int(name.split("-")[1]) for name in os.listdir(folder) if name.startswith("checkpoint-"))
    step = found[-1] if found else 0
    if step and open(folder + "checkpoint-%d/model.bin" % step).read() != "x" * 1000 + str(step):
        sys.exit("torn")
    if last:
        done(step)
    log = open(folder + "runs/events", "a")
    while True:
        step += 1
        log.write("step %d\\n" % step)
        log.flush()
        time.sleep(0.1)
        if step % 5 == 0:
            part = folder + "tmp"
            os.makedirs(part)
            with open(part + "/model.bin", "w") as file:
                file.write("x" * 1000 + str(step))
            os.rename(part, folder + "checkpoint-%d" % step)
"""
FORKS = """
    step = 0
    if resumed:
        parts = [open(folder + "lane%d" % lane).read() for lane in range(4)]
        if any(part != "x" * len(part) for part in parts):
            sys.exit("torn")
        step = min(map(len, parts))
    if last:
        done(step)
    def lane(number):
        while True:  # each write is by a process that lives for a moment
            child = os.fork()
            if child == 0:
                with open(folder + "lane%d" % number, "a") as file:
                    file.write("x")
                time.sleep(0.01)
                os._exit(0)
            os.waitpid(child, 0)
    for number in range(4):
        if os.fork() == 0:
            lane(number)
    time.sleep(1000)
"""
CANNOT_SAVE = """
    if last:
        done(0)
    time.sleep(1000)
"""


@frozen
class Row:
    """A kind of program.

    Attributes:
        program: The program, after START.
        qualities: Qualities that its checkpoints may have.
        settings: Lines of its entry in workloads.toml.
    """

    program: str
    qualities: set[Quality]
    settings: str = ""


ROWS = {
    "announces": Row(ANNOUNCES, {Quality.ANNOUNCED}),
    "replaces by rename": Row(REPLACES, {Quality.QUIET}),
    "writes in place": Row(IN_PLACE, {Quality.FROZEN}),
    "memory-maps": Row(MAPS, {Quality.FROZEN}),
    "SQLite": Row(SQLITE, {Quality.FROZEN}),
    "appends": Row(APPENDS, {Quality.QUIET}, 'growing = "output/*.log"\n'),
    "logs beside its state": Row(CHATTY, {Quality.FROZEN}),
    "forks": Row(FORKS, {Quality.FROZEN}),
}


def offer(files: ProcessCluster, row: Row) -> None:
    """Write the program and the workloads file of the cluster, and submit a job."""
    (files.home / "program.py").write_text(textwrap.dedent(START) + textwrap.dedent(row.program))
    settings = f"{SETTINGS}{row.settings}"
    (files.home / "workloads.toml").write_text(f'[job]\ncommand = "{{python}} {{here}}/program.py"\n{settings}')
    assert files.holdfast("submit", "--no-input", "a", "--workload", "job").returncode == 0


def quality(files: ProcessCluster, record: JobRecord) -> Quality | None:
    assert record.checkpoint is not None
    return fetch_manifest(files.env.store, record.checkpoint).quality


@pytest.mark.parametrize("name", ROWS)
def test_a_program_resumes_from_a_consistent_state(files: ProcessCluster, tmp_path: Path, name: str) -> None:
    """It is killed together with its node and its files, and finds a state that fits together."""
    row = ROWS[name]
    offer(files, row)
    worker = files.worker(WORK_DIR=str(tmp_path / "gone"))
    record = files.until("a", lambda record: record.checkpoint and record.checkpoint.seq >= 3)
    assert quality(files, record) in row.qualities
    worker.kill()
    worker.wait()
    files.worker("--max-jobs", "1", WORK_DIR=str(tmp_path / "next"))
    record = files.settled("a")
    assert record.state is State.COMPLETED, record.error
    assert [attempt.outcome for attempt in record.attempts] == ["vanished", "completed"]
    steps = files.env.store.get(f"{files.env.layout.job('a').output}steps")
    assert steps is not None
    assert int(steps.body.split()[-1]) > 0


def test_a_program_that_cannot_save_says_so(files: ProcessCluster) -> None:
    """A program without a state runs from the beginning; meanwhile `status` and `show` say that nothing is saved."""
    offer(files, Row(CANNOT_SAVE, set()))
    files.worker()
    files.until("a", lambda record: record.saving)
    for command in (("status", "a"), ("show", "a")):
        assert "no checkpoint for" in files.holdfast(*command).stdout
    assert "the program has saved no file of its state yet" in files.holdfast("show", "a").stdout


def test_a_chatty_program_that_must_not_be_frozen_says_so(files: ProcessCluster) -> None:
    """With `freeze = false`, `status --json` names the file that never rests, and the remedies."""
    offer(files, Row(CHATTY, set(), "freeze = false\n"))
    files.worker()
    files.until("a", lambda record: record.saving)
    said = files.holdfast("status", "--json").stdout
    assert "checkpoint/runs/events changes every second: declare it `growing`" in said
    assert "or allow `freeze`" in said
