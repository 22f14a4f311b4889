"""`holdfast demo`: the main job, on this machine: five sums, two workers, one killed with SIGKILL in the middle.

It goes the way that a user goes: folders are uploaded and submitted by the same commands, workers are processes, and
what is shown is read from the job records. It succeeds only if every sum is right and the killed worker's job went on
from a checkpoint.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

from attrs import define, field

from client.config.composition import Environment, open_environment
from client.config.settings import from_environ
from client.views.demo_view import View, view_on
from lifecycle.checkpoint.restore import fetch_manifest, fill
from lifecycle.job_record import JobRecord
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import State

JOBS: Final = tuple(f"job{number}" for number in range(5))
START, END = 1, 2880
EXPECTED: Final = sum(range(START, END + 1))
STEP_S: Final = 0.003  # long enough to be seen, short enough for a minute
SAVING_S: Final = 1.0
WORKERS: Final = 2
LIMIT: Final = timedelta(minutes=5)
LOOK_S: Final = 0.25
EMBEDDED: Final = {"LEASE": "4s", "HEARTBEAT": "1s", "STOP_GRACE": "5s", "MAX_RUNNING_TIME": "2h"}
CLOUD: Final = ("QUEUE_URL", "BUCKET", "PREFIX")


def run(*, cloud: bool = False) -> int:
    """Run the demo.

    Args:
        cloud: Use the queue and the bucket of the settings, under a prefix of its own, instead of `./.holdfast/demo`.

    Returns:
        0 if all went as it should, 1 if not.

    Raises:
        ConfigError: The settings are wrong.
    """
    home = Path(os.environ.get("HOLDFAST_HOME") or ".holdfast").resolve() / "demo"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    environ = {**os.environ, **EMBEDDED, "HOLDFAST_HOME": str(home), "WORK_DIR": str(home / "work")}
    environ |= {"LOG_FORMAT": "text", "METRICS_PORT": "0"}  # its workers are two, and their logs for people
    for name in CLOUD:
        if not cloud:
            environ[name] = ""
    if cloud:
        environ["PREFIX"] = f"holdfast-demo-{uuid4().hex[:8]}"
    env = open_environment(from_environ(environ, None))
    folder = home / "local_jobs"
    for job in JOBS:
        (folder / job).mkdir(parents=True)
        (folder / job / "input.txt").write_text(f"{START}\n{END}\n")
    with view_on(sys.stdout, JOBS) as view, DemoWorkers(environ, home, view) as crew:
        view.say(f"five jobs, each the sum of {START}…{END}; {WORKERS} workers; one will be killed")
        crew.command("upload", str(folder))
        params = (f"STEP_RUNNING_TIME={STEP_S}", f"STATE_SAVING_INTERVAL={SAVING_S}")
        crew.command("submit", str(folder), *(part for value in params for part in ("--param", value)))
        for _ in range(WORKERS):
            crew.start_worker()
        killed = carry_to_the_end(env, crew, view)
    return verdict(env, killed)


def carry_to_the_end(env: Environment, crew: "DemoWorkers", view: View) -> str | None:
    """Show the jobs until all are over; kill one worker once its job has a checkpoint.

    Returns:
        The job whose worker was killed; None if there was no chance to, or time ran out.
    """
    killed = None
    deadline = time.monotonic() + LIMIT.total_seconds()
    while time.monotonic() < deadline:
        stored = [found for job in JOBS if (found := env.record_store.read(env.layout.job(job).record))]
        view.show(stored)
        if len(stored) == len(JOBS) and all(one.record.is_settled for one in stored):
            return killed
        victim = None if killed else choose_victim(one.record for one in stored)
        if victim and crew.kill(victim.owner or ""):
            killed = victim.job
            view.say(f"SIGKILL to {victim.owner}, in the middle of {killed}; the platform starts another node")
            crew.start_worker()
        time.sleep(LOOK_S)
    view.say(f"not done after {LIMIT}")
    return killed


def choose_victim(records: Iterable[JobRecord]) -> JobRecord | None:
    """A job in the middle: running, with a checkpoint committed a good part of the way."""
    for record in records:
        step = record.checkpoint.step if record.checkpoint else None
        if record.state in {State.RUNNING, State.CHECKPOINTING} and step and step > (END - START) / 5:
            return record
    return None


def verdict(env: Environment, killed: str | None) -> int:
    """Say what came out, and whether it is right."""
    right = 0
    for job in JOBS:
        stored = env.record_store.read(env.layout.job(job).record)
        total = read_sum(env, stored)
        right += total == EXPECTED
        resumed = [a.resumed_step for a in stored.record.attempts if a.resumed_step] if stored else []
        history = "".join(f", resumed at step {step}" for step in resumed)
        print(f"{job}: {f'{total:,}'.replace(',', ' ') if total is not None else 'no sum'}{history}")
        if job == killed and not resumed:
            print(f"{job}: its worker was killed, but it did not resume from a checkpoint")
            right -= 1
    if killed is None:
        print("no worker was killed: nothing was proven")
        return 1
    print(f"{right} of {len(JOBS)} as they should be")
    return int(right != len(JOBS))


def read_sum(env: Environment, stored: StoredRecord | None) -> int | None:
    """The sum that a job gave, its hash verified; None if it gave none."""
    if stored is None or stored.record.result is None:
        return None
    into = env.settings.home / "outputs" / stored.record.job
    fill(env.store, env.clock, fetch_manifest(env.store, stored.record.result.manifest).files, into)
    return int((into / "output" / "output.txt").read_text())


@define
class DemoWorkers:
    """The demo's worker processes, and the commands that it runs; all ended when it is left."""

    environ: Mapping[str, str]
    home: Path
    view: View
    workers: list[subprocess.Popen[bytes]] = field(factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(timeout=15)
            except subprocess.TimeoutExpired:
                worker.kill()

    def command(self, *words: str) -> None:
        """Run a `holdfast` command to its end, shown as a user would type it."""
        self.view.say(f"$ holdfast {' '.join(words)}")
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-P", "-m", "holdfast", *words],
            env=dict(self.environ),
            check=False,
            capture_output=True,
            text=True,
        )
        for line in (done.stdout + done.stderr).splitlines():
            self.view.say(line)
        done.check_returncode()

    def start_worker(self) -> None:
        """Start one more worker; its log lies beside the demo's data."""
        number = len(self.workers) + 1
        self.view.say(f"$ holdfast worker   (worker {number})")
        with (self.home / f"worker{number}.log").open("wb") as log:
            self.workers.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "holdfast", "worker"], env=dict(self.environ), stderr=log, stdout=log
                )
            )

    def kill(self, owner: str) -> bool:
        """SIGKILL the worker whose node is called *owner*; False if it is none of ours."""
        for worker in self.workers:
            if worker.poll() is None and f"-{worker.pid}-" in owner:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
                return True
        return False
