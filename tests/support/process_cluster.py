"""A cluster of real processes: the installed command, and workers that can be killed and stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field

from client.config.composition import open_environment
from client.config.environment import Environment
from client.config.settings import from_environ
from lifecycle.job_record import JobRecord
from lifecycle.record.record_store import StoredRecord

FAST = {"LEASE": "5s", "HEARTBEAT": "1s", "STOP_GRACE": "5s", "STATE_SAVING_INTERVAL": "1s"}
PATIENCE_S = 90.0


@define
class ProcessCluster:
    """A queue, a bucket, and the processes that use them."""

    home: Path
    settings: Mapping[str, str]
    workers: list[subprocess.Popen[bytes]] = field(factory=list)
    env: Environment = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.env = open_environment(from_environ(self.environ(), None))

    def environ(self, **more: str) -> dict[str, str]:
        host = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "VIRTUAL_ENV"}}
        return {**host, "HOLDFAST_HOME": str(self.home), **FAST, **self.settings, **more}

    def holdfast(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "client.cli", *words]
        return subprocess.run(
            command, env=self.environ(**more), cwd=self.home, check=False, capture_output=True, text=True, timeout=120
        )

    def submit(self, job: str, text: str | None = "1\n2880\n", *, step_s: float = 0.002, **params: object) -> None:
        if text is not None:
            self.env.store.put(f"{self.env.layout.job(job).input}input.txt", text.encode())
        given = {"STEP_RUNNING_TIME": step_s, "STATE_SAVING_INTERVAL": 0.5, **params}
        done = self.holdfast(
            "submit", "--no-input", job, *(w for k, v in given.items() for w in ("--param", f"{k}={json.dumps(v)}"))
        )
        assert done.returncode == 0, done.stderr

    def worker(self, *words: str, **more: str) -> subprocess.Popen[bytes]:
        log = (self.home / f"worker{len(self.workers) + 1}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "client.cli", "worker", *words],
                env=self.environ(**more),
                cwd=self.home,
                stdout=log,
                stderr=log,
            )
        self.workers.append(process)
        return process

    def log_of(self, process: subprocess.Popen[bytes]) -> str:
        return (self.home / f"worker{self.workers.index(process) + 1}.log").read_text()

    def stored(self, job: str) -> StoredRecord:
        stored = self.env.record_store.read(self.env.layout.job(job).record)
        assert stored is not None
        return stored

    def record(self, job: str) -> JobRecord:
        return self.stored(job).record

    def until(self, job: str, condition: Callable[[JobRecord], Any], *, patience_s: float = PATIENCE_S) -> JobRecord:
        deadline = time.monotonic() + patience_s
        while True:
            record = self.record(job)
            if condition(record):
                return record
            assert time.monotonic() < deadline, f"{record}\n" + "\n".join(map(self.log_of, self.workers))
            time.sleep(0.05)

    def settled(self, job: str) -> JobRecord:
        return self.until(job, lambda record: record.is_settled)

    def output(self, job: str) -> str | None:
        stored = self.env.store.get(f"{self.env.layout.job(job).output}output.txt")
        return stored.body.decode().strip() if stored else None

    def empty(self) -> None:
        """Wait until no message is left."""
        deadline = time.monotonic() + PATIENCE_S
        while (depth := self.env.queue.depth()).available + depth.in_flight + depth.delayed:
            assert time.monotonic() < deadline, depth
            time.sleep(0.1)

    def close(self) -> None:
        for process in self.workers:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


def has_checkpoint(record: JobRecord) -> bool:
    """Return True if a good part of the job is committed."""
    return record.checkpoint is not None and (record.checkpoint.step or 0) > 300
