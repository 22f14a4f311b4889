"""`make chaos`: workers behind a hostile network, killed, frozen and stopped at random; every sum must be right.

Three workers, a moto server in its own process, and a proxy between them with changing weather. The seed decides
the faults and their times; the machine's own timing varies, so this is not a simulation.
"""

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from attrs import define, field
from support.process_cluster import ProcessCluster
from support.proxy import WEATHERS, Proxy

from adapters.aws.clients import BULK, CONTROL, Credentials, make_client
from adapters.aws.error_mapping import S3, SQS
from lifecycle.job_record import JobRecord
from lifecycle.states import OWNED

KEYS: Final = {"AWS_ID": "AKIATESTTESTTESTTEST", "AWS_KEY": "not-a-secret"}
STEPS: Final = 2880
SUM: Final = "4148640"
STEP_S: Final = 0.003
WORKERS: Final = 3
LOOK_S: Final = 0.2
CALM_S: Final = 300.0
"""All jobs must end within this time after the last fault."""
PATIENT: Final = {"MAX_DEATHS": "1000", "MAX_FAILURES": "1000"}  # nodes die every few seconds here
LAUNCHER: Final = Path(__file__).parents[1] / "moto_launcher.py"


@define
class Chaos:
    """One run.

    Attributes:
        cluster: The cluster as seen without the proxy, for observing.
        proxy: The proxy between workers and server.
        rng: Decides the faults.
        jobs: The jobs' ids.
        faults: Number of faults injected, by kind.
        died: Time and epoch of the last kill of a job's owner, by job.
        resumed_s: Seconds from each such kill to the next attempt.
    """

    cluster: ProcessCluster
    proxy: Proxy
    rng: random.Random
    jobs: Sequence[str]
    faults: Counter[str] = field(factory=Counter)
    died: dict[str, tuple[float, int]] = field(factory=dict)
    resumed_s: list[float] = field(factory=list)
    frozen: dict[int, float] = field(factory=dict)
    workers: list[subprocess.Popen[bytes]] = field(factory=list)

    def run(self, seconds: float) -> dict[str, Any]:
        """Submit the jobs, inject faults for *seconds*, wait for the end, and return the figures.

        Raises:
            AssertionError: A job is lost, a sum is wrong, or a job has two completions.
        """
        for job in self.jobs:
            self.cluster.env.store.put(f"{self.cluster.env.layout.job(job).input}input.txt", b"1\n%d\n" % STEPS)
        done = self.cluster.holdfast(
            "submit",
            *self.jobs,
            *("--param", f"STEP_RUNNING_TIME={STEP_S}", "--param", "STATE_SAVING_INTERVAL=0.5"),
        )
        assert done.returncode == 0, done.stderr
        self.workers = [self._worker() for _ in range(WORKERS)]
        began = time.monotonic()
        next_act = next_weather = began
        while (now := time.monotonic()) < began + seconds and not self._all_settled():
            if now >= next_weather:
                self.proxy.weather = self.rng.choice(WEATHERS)
                next_weather = now + self.rng.uniform(1, 6)
            if now >= next_act:
                self._act()
                next_act = now + self.rng.uniform(1, 5)
            self._look()
        self.proxy.weather = "clear"
        self._thaw(everyone=True)
        deadline = time.monotonic() + CALM_S
        while not self._all_settled():
            assert time.monotonic() < deadline, self._unsettled()
            self._look()
        return self._account(time.monotonic() - began)

    # ---- faults ----

    def _worker(self) -> subprocess.Popen[bytes]:
        queue = self.cluster.settings["QUEUE_URL"].replace(self.cluster.settings["CLOUDFLARE_URL"], self.proxy.url)
        return self.cluster.worker(QUEUE_URL=queue, CLOUDFLARE_URL=self.proxy.url, **PATIENT)

    def _act(self) -> None:
        worker = self.rng.choice(self.workers)
        what = self.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM))
        if worker.pid in self.frozen:
            return
        self.faults[what.name] += 1
        if what is signal.SIGKILL:
            self._note_death(worker)
        if what is signal.SIGSTOP:
            self.frozen[worker.pid] = time.monotonic() + self.rng.uniform(1, 12)
        worker.send_signal(what)

    def _note_death(self, worker: subprocess.Popen[bytes]) -> None:
        for record in self._records():
            if record.state in OWNED and f"-{worker.pid}-" in (record.owner or ""):
                self.died.setdefault(record.job, (time.monotonic(), record.epoch))

    def _thaw(self, *, everyone: bool = False) -> None:
        now = time.monotonic()
        for worker in self.workers:
            until = self.frozen.get(worker.pid)
            if until is not None and (everyone or now >= until):
                del self.frozen[worker.pid]
                worker.send_signal(signal.SIGCONT)

    def _look(self) -> None:
        """Thaw and replace workers, and measure."""
        time.sleep(LOOK_S)
        self._thaw()
        for position, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.workers[position] = self._worker()
        for job, (moment, epoch) in list(self.died.items()):
            if self.cluster.record(job).epoch > epoch:
                self.resumed_s.append(time.monotonic() - moment)
                del self.died[job]

    def _records(self) -> list[JobRecord]:
        return [self.cluster.record(job) for job in self.jobs]

    def _all_settled(self) -> bool:
        return all(record.is_settled for record in self._records())

    def _unsettled(self) -> str:
        return "\n".join(str(record) for record in self._records() if not record.is_settled)

    # ---- the end ----

    def _account(self, took_s: float) -> dict[str, Any]:
        records = self._records()
        for record in records:
            outcomes = [attempt.outcome for attempt in record.attempts]
            assert outcomes.count("completed") == 1, record
            assert self.cluster.output(record.job) == SUM, record
        done = sum(attempt.steps for record in records for attempt in record.attempts)
        useful = STEPS * len(records)
        return {
            "jobs": len(records),
            "seconds": round(took_s, 1),
            "faults": dict(sorted((self.faults + self.proxy.hits).items())),
            "attempts": sum(len(record.attempts) for record in records),
            "take_overs": sum(record.interruptions.get("node_lost", 0) for record in records),
            "work_redone_percent": round(100 * (done - useful) / useful, 1),
            "death_to_resumption_s": {
                "deaths": len(self.resumed_s),
                "median": round(statistics.median(self.resumed_s), 1) if self.resumed_s else None,
                "max": round(max(self.resumed_s), 1) if self.resumed_s else None,
            },
        }


def play(home: Path, *, port: int, seed: int, seconds: float, jobs: int) -> dict[str, Any]:
    """Run once against the moto server on *port*, and return the figures."""
    endpoint, name = f"http://127.0.0.1:{port}", f"chaos-{uuid.uuid4().hex}"
    credentials = Credentials(key_id=KEYS["AWS_ID"], secret=KEYS["AWS_KEY"])
    make_client(S3, BULK, endpoint=endpoint, region="us-east-1", credentials=credentials).create_bucket(Bucket=name)
    sqs = make_client(SQS, CONTROL, endpoint=endpoint, region="us-east-1", credentials=credentials)
    settings = {
        **KEYS,
        "QUEUE_URL": sqs.create_queue(QueueName=name)["QueueUrl"],
        "CLOUDFLARE_URL": endpoint,
        "CLOUDFLARE_ID": KEYS["AWS_ID"],
        "CLOUDFLARE_KEY": KEYS["AWS_KEY"],
        "BUCKET": name,
    }
    cluster, proxy = ProcessCluster(home, settings), Proxy(port, seed=seed)
    try:
        return Chaos(cluster, proxy, random.Random(seed), [f"job{number}" for number in range(jobs)]).run(seconds)
    finally:
        cluster.close()


def main() -> int:
    """Run with the options of the command line, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=20)
    args = parser.parse_args()
    server = subprocess.Popen([sys.executable, str(LAUNCHER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        with tempfile.TemporaryDirectory() as home:
            port = int(str(server.stdout.readline())) if server.stdout else 0
            print(
                json.dumps(play(Path(home), port=port, seed=args.seed, seconds=args.seconds, jobs=args.jobs), indent=2)
            )
    finally:
        server.kill()
        server.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
