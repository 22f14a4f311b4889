"""`holdfast demo`: run five jobs on two workers on this machine, and kill one worker with SIGKILL halfway.

The demo does as a user does: it uploads and submits folders with the same commands, its workers are processes, and it
reads the job records. It succeeds only if every sum is right and the killed worker's job resumed from a checkpoint.
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

import click
from attrs import define, field, frozen

from adapters.local.private_files import private_umask
from client import options
from client.config.composition import open_environment
from client.config.environment import Environment
from client.config.settings import current_settings
from client.config.variables import process_variables
from client.views.demo_view import DemoRow, DemoView, open_view
from client.views.output import say
from lifecycle.checkpoint.restore import fetch_manifest, fill
from lifecycle.job_record import JobRecord
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import OWNED, State

JOBS: Final = tuple(f"job{number}" for number in range(5))
START, END = 1, 2880
EXPECTED: Final = sum(range(START, END + 1))
STEP_S: Final = 0.003  # long enough to watch, short enough for a minute in all
SAVING_S: Final = 1.0
WORKERS: Final = 2
TIME_LIMIT: Final = timedelta(minutes=5)
POLL_S: Final = 0.25
TERMINATE_S: Final = 15
SETTINGS: Final = {
    "LEASE": "4s",
    "HEARTBEAT": "1s",
    "STOP_GRACE": "5s",
    "MAX_RUNNING_TIME": "2h",
    "LOG_FORMAT": "text",  # for people
    "METRICS_PORT": "0",  # two workers cannot share a port
}
WORKING: Final = frozenset((State.RUNNING, State.CHECKPOINTING))
NEXT: Final = """
What you saw: a worker was killed without warning. Its lease ran out, another
worker took the job, loaded the last checkpoint from the bucket and went on. The
result is that of an uninterrupted run. The same happens on real queues and
buckets, with any program.

To try next:
  export HOLDFAST_HOME={home}
  holdfast status          all jobs
  holdfast show {job}       the story of the job whose worker was killed
and read docs/workloads.md to run a program of your own."""
CLOUD: Final = ("QUEUE_URL", "CLOUDFLARE_URL", "BUCKET", "PREFIX")
NO_FILE: Final = {
    "HOLDFAST_CONFIG": os.devnull
}  # the settings file of the user, which may name a queue, is for --cloud


def run(*, cloud: bool = False) -> int:
    """Run the demo.

    Args:
        cloud: Use the configured queue and bucket, with a prefix of its own, instead of `./.holdfast/demo`.

    Returns:
        0 if everything went right, 1 if not.

    Raises:
        ConfigError: A setting is invalid.
    """
    with private_umask():
        return run_on(cloud=cloud)


def run_on(*, cloud: bool) -> int:
    """Run the demo; see `run`."""
    variables = process_variables()
    home = Path(variables.get("HOLDFAST_HOME") or ".holdfast").resolve() / "demo"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    variables |= {**SETTINGS, "HOLDFAST_HOME": str(home), "WORK_DIR": str(home / "work")}
    if cloud:
        variables["PREFIX"] = f"holdfast-demo-{uuid4().hex[:8]}"
    else:
        variables |= dict.fromkeys(CLOUD, "") | NO_FILE
    env = open_environment(current_settings(variables))
    folder = home / "local_jobs"
    for job in JOBS:
        (folder / job).mkdir(parents=True)
        (folder / job / "input.txt").write_text(f"{START}\n{END}\n")
    with open_view(sys.stdout) as view, DemoProcesses(variables, home, view) as processes:
        view.say(
            f"{len(JOBS)} jobs, each the sum of {START:,} to {END:,} in steps of {STEP_S * 1000:.0f} ms, "
            f"and {WORKERS} workers.\nOne worker will be killed in the middle of its job."
        )
        processes.command("upload", str(shown(folder)))
        params = (f"STEP_RUNNING_TIME={STEP_S}", f"STATE_SAVING_INTERVAL={SAVING_S}")
        processes.command("submit", str(shown(folder)), *(part for value in params for part in ("--param", value)))
        for _ in range(WORKERS):
            processes.start_worker()
        killed = watch_jobs(env, processes, view)
    return print_results(env, killed)


def watch_jobs(env: Environment, processes: "DemoProcesses", view: DemoView) -> "Kill | None":
    """Show the jobs until all are over; kill one worker once its job has a checkpoint.

    Returns:
        What was killed; None if nothing was before the jobs ended or time ran out.
    """
    killed, is_taken_over = None, False
    deadline = time.monotonic() + TIME_LIMIT.total_seconds()
    while time.monotonic() < deadline:
        stored = [found for job in JOBS if (found := env.record_store.read(env.layout.job(job).record))]
        if killed and not is_taken_over and (taken := takeover(stored, killed, processes)):
            is_taken_over = True
            view.say(taken, style="bold green")
        view.show([row_of(one, processes) for one in stored])
        if len(stored) == len(JOBS) and all(one.record.is_settled for one in stored):
            return killed
        victim = None if killed else choose_victim(one.record for one in stored)
        if victim and processes.kill(victim.owner or ""):
            killed = Kill(victim.job, victim.epoch, victim.progress.done or 0)
            saved = victim.checkpoint.step if victim.checkpoint else None
            view.say(
                f"SIGKILL to {processes.name_of(victim.owner)}, in {victim.job} at step {killed.step:,}; "
                f"its last checkpoint is of step {saved:,}.\nThe platform starts another node.",
                style="bold red",
            )
            processes.start_worker()
        time.sleep(POLL_S)
    view.say(f"not done after {TIME_LIMIT}", style="bold red")
    return killed


@frozen
class Kill:
    """The death of a worker.

    Attributes:
        job: Its job.
        epoch: The job's epoch at that time.
        step: The job's step at that time.
    """

    job: str
    epoch: int
    step: int


def takeover(stored: Iterable[StoredRecord], killed: Kill, processes: "DemoProcesses") -> str | None:
    """Return a sentence about the worker that has taken the killed worker's job; None if none has yet."""
    for record in (one.record for one in stored):
        if record.job == killed.job and record.epoch > killed.epoch and record.state in WORKING:
            step = record.attempts[-1].resumed_step or 0
            lost = max(killed.step - step, 0)
            return (
                f"{processes.name_of(record.owner)} takes over {record.job} at step {step:,}; "
                f"{lost:,} steps ({lost * STEP_S:.1f} s) were lost"
            )
    return None


def row_of(stored: StoredRecord, processes: "DemoProcesses") -> DemoRow:
    """Return a job as the display shows it."""
    record = stored.record
    is_orphaned = record.state in OWNED and processes.is_dead(record.owner)
    return DemoRow(
        job=record.job,
        state=record.state,
        done=record.progress.done or 0,
        total=record.progress.total or 0,
        saved=(record.checkpoint.step or 0) if record.checkpoint else 0,
        worker=processes.name_of(record.owner),
        lease_left_s=max(record.lease_s - (stored.age_s or 0.0), 0.0) if is_orphaned else None,
    )


def choose_victim(records: Iterable[JobRecord]) -> JobRecord | None:
    """Return a running job with a checkpoint of more than a fifth of its work; None if there is none.

    It has got further than its checkpoint, so that something is lost; after half of its work, that does not matter.
    """
    for record in records:
        step = (record.checkpoint.step or 0) if record.checkpoint else 0
        loses = (record.progress.done or 0) > step
        if record.state in WORKING and step > (END - START) / (5 if loses else 2):
            return record
    return None


def print_results(env: Environment, killed: Kill | None) -> int:
    """Print each job's sum and history, and what to try next; return the exit code."""
    right = 0
    say()
    for job in JOBS:
        stored = env.record_store.read(env.layout.job(job).record)
        total = read_sum(env, stored)
        right += total == EXPECTED
        resumed = [a.resumed_step for a in stored.record.attempts if a.resumed_step] if stored else []
        history = "".join(f", resumed at step {step:,}" for step in resumed)
        say(f"{job}: {f'{total:,}' if total is not None else 'no sum'}{history}")
        if killed and job == killed.job and not resumed:
            say(f"{job}: its worker was killed, but it did not resume from a checkpoint")
            right -= 1
    if killed is None:
        say("no worker was killed, so the demo proved nothing")
        return 1
    say(f"{right} of {len(JOBS)} jobs completed with the right sum")
    if right == len(JOBS):
        say(NEXT.format(home=shown(env.settings.home), job=killed.job))
    return int(right != len(JOBS))


def shown(path: Path) -> Path:
    """Return *path* as a user would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def read_sum(env: Environment, stored: StoredRecord | None) -> int | None:
    """Return a job's sum, after verifying its hash; None if it has no result."""
    if stored is None or stored.record.result is None:
        return None
    into = env.settings.home / "outputs" / stored.record.job
    fill(env.store, env.clock, fetch_manifest(env.store, stored.record.result.manifest).files, into)
    return int((into / "output" / "output.txt").read_text())


@define
class DemoProcesses:
    """The demo's commands and workers, as processes; leaving the context ends the workers.

    Attributes:
        variables: The processes' environment variables.
        home: The demo's folder.
        view: The display.
        workers: The workers, in the order of their start.
    """

    variables: Mapping[str, str]
    home: Path
    view: DemoView
    workers: list[subprocess.Popen[bytes]] = field(factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(timeout=TERMINATE_S)
            except subprocess.TimeoutExpired:
                worker.kill()

    def command(self, *words: str) -> None:
        """Run a `holdfast` command to its end, and show it as a user would type it."""
        self.view.say(f"$ holdfast {' '.join(words)}", style="bold")
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-P", "-m", "holdfast", *words],
            env=dict(self.variables),
            check=False,
            capture_output=True,
            text=True,
        )
        for line in (done.stdout + done.stderr).splitlines():
            self.view.say(line)
        done.check_returncode()

    def start_worker(self) -> None:
        """Start another worker; its log is in the demo's folder."""
        number = len(self.workers) + 1
        self.view.say(f"$ holdfast worker   (worker {number})", style="bold")
        with (self.home / f"worker{number}.log").open("wb") as log:
            command = [sys.executable, "-P", "-m", "holdfast", "worker"]
            worker = subprocess.Popen(command, env=dict(self.variables), stderr=log, stdout=log)  # noqa: S603 - ours
            self.workers.append(worker)

    def kill(self, owner: str) -> bool:
        """Send SIGKILL to the worker whose node is *owner*; return False if it is not one of ours."""
        number = self._number_of(owner)
        if number is None or self.is_dead(owner):
            return False
        self.workers[number].send_signal(signal.SIGKILL)
        self.workers[number].wait()
        return True

    def is_dead(self, owner: str | None) -> bool:
        """Return whether *owner* is the node of a worker that has ended."""
        number = self._number_of(owner)
        return number is not None and self.workers[number].poll() is not None

    def name_of(self, owner: str | None) -> str:
        """Return the display name of the worker whose node is *owner*."""
        number = self._number_of(owner)
        return (owner or "") if number is None else f"worker {number + 1}"

    def _number_of(self, owner: str | None) -> int | None:
        """Return the index of the worker whose node is *owner*: the name of a node holds its process id."""
        return next((at for at, worker in enumerate(self.workers) if f"-{worker.pid}-" in (owner or "")), None)


@options.command(
    "demo",
    ("holdfast demo", "Run it on files in a temporary folder; no account is needed."),
    ("holdfast demo --cloud", "Run it on the queue and the bucket that the settings name."),
)
@click.option("--cloud", is_flag=True, help="Use the configured queue and bucket.")
def command(*, cloud: bool) -> int:
    """Run five jobs on two workers, and kill one worker."""
    return run(cloud=cloud)
