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

from attrs import define, field

from client.config.composition import open_environment
from client.config.environment import Environment
from client.config.settings import current_settings
from client.config.variables import process_variables
from client.views.demo_view import DemoView, open_view
from client.views.output import say
from lifecycle.checkpoint.restore import fetch_manifest, fill
from lifecycle.job_record import JobRecord
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import State

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
        view.print(f"five jobs, each the sum of {START}…{END}; {WORKERS} workers; one will be killed")
        processes.command("upload", str(folder))
        params = (f"STEP_RUNNING_TIME={STEP_S}", f"STATE_SAVING_INTERVAL={SAVING_S}")
        processes.command("submit", str(folder), *(part for value in params for part in ("--param", value)))
        for _ in range(WORKERS):
            processes.start_worker()
        killed = watch_jobs(env, processes, view)
    return print_results(env, killed)


def watch_jobs(env: Environment, processes: "DemoProcesses", view: DemoView) -> str | None:
    """Show the jobs until all are over; kill one worker once its job has a checkpoint.

    Returns:
        The job whose worker was killed; None if none was killed before the jobs ended or time ran out.
    """
    killed = None
    deadline = time.monotonic() + TIME_LIMIT.total_seconds()
    while time.monotonic() < deadline:
        stored = [found for job in JOBS if (found := env.record_store.read(env.layout.job(job).record))]
        view.show(stored)
        if len(stored) == len(JOBS) and all(one.record.is_settled for one in stored):
            return killed
        victim = None if killed else choose_victim(one.record for one in stored)
        if victim and processes.kill(victim.owner or ""):
            killed = victim.job
            view.print(f"SIGKILL to {victim.owner}, in the middle of {killed}; the platform starts another node")
            processes.start_worker()
        time.sleep(POLL_S)
    view.print(f"not done after {TIME_LIMIT}")
    return killed


def choose_victim(records: Iterable[JobRecord]) -> JobRecord | None:
    """Return a job that is running and has a checkpoint of more than a fifth of its work; None if there is none."""
    for record in records:
        step = record.checkpoint.step if record.checkpoint else None
        if record.state in {State.RUNNING, State.CHECKPOINTING} and step and step > (END - START) / 5:
            return record
    return None


def print_results(env: Environment, killed: str | None) -> int:
    """Print each job's sum and history, and return the exit code."""
    right = 0
    for job in JOBS:
        stored = env.record_store.read(env.layout.job(job).record)
        total = read_sum(env, stored)
        right += total == EXPECTED
        resumed = [a.resumed_step for a in stored.record.attempts if a.resumed_step] if stored else []
        history = "".join(f", resumed at step {step}" for step in resumed)
        say(f"{job}: {f'{total:,}'.replace(',', ' ') if total is not None else 'no sum'}{history}")
        if job == killed and not resumed:
            say(f"{job}: its worker was killed, but it did not resume from a checkpoint")
            right -= 1
    if killed is None:
        say("no worker was killed, so the demo proved nothing")
        return 1
    say(f"{right} of {len(JOBS)} jobs completed with the right sum")
    return int(right != len(JOBS))


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
        self.view.print(f"$ holdfast {' '.join(words)}")
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-P", "-m", "holdfast", *words],
            env=dict(self.variables),
            check=False,
            capture_output=True,
            text=True,
        )
        for line in (done.stdout + done.stderr).splitlines():
            self.view.print(line)
        done.check_returncode()

    def start_worker(self) -> None:
        """Start another worker; its log is in the demo's folder."""
        number = len(self.workers) + 1
        self.view.print(f"$ holdfast worker   (worker {number})")
        with (self.home / f"worker{number}.log").open("wb") as log:
            command = [sys.executable, "-P", "-m", "holdfast", "worker"]
            worker = subprocess.Popen(command, env=dict(self.variables), stderr=log, stdout=log)  # noqa: S603 - ours
            self.workers.append(worker)

    def kill(self, owner: str) -> bool:
        """Send SIGKILL to the worker whose node is *owner*; return False if it is not one of ours."""
        for worker in self.workers:
            if worker.poll() is None and f"-{worker.pid}-" in owner:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
                return True
        return False
