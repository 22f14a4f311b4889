"""A real worker with the stub: its memory while idle, and its calls in an hour of a job.

The hour is simulated: the worker's heartbeat, saving interval and round trip are 20 times shorter, in their default
proportion, and calls are counted from one commit to a later one, in whole intervals. The calls at the start and end of
an attempt are counted separately, and spread over MAX_RUNNING_TIME.
"""

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from harness import HOLDFAST, Row, StubServer, holdfast, stub

IDLE_MIB: Final = 80
SETTLED_S: Final = 3.0
PATIENCE_S: Final = 180.0
POLL_S: Final = 0.1
COMMITTED_S: Final = 3.0  # from the manifest to the end of the garbage collection

SHORTER: Final = 20  # R2's one write a second to a key forbids more
ROUND_TRIP_S: Final = 0.04 / SHORTER
HEARTBEAT_S: Final = 30 / SHORTER
SAVING_S: Final = 600 / SHORTER
SAVINGS_COUNTED: Final = 2
SAVINGS_PER_HOUR: Final = 6
HOURS_PER_ATTEMPT: Final = 2  # MAX_RUNNING_TIME
STEP_S: Final = 0.05

DEMO_RENEWALS: Final = 24  # a renewal every 150 s
DEMO_PUTS: Final = 12  # state and log, every 10 minutes


def measure() -> Iterator[Row]:
    """Run a worker on one job."""
    with stub(ROUND_TRIP_S) as server, TemporaryDirectory() as folder:
        home = Path(folder)
        env = server.environ(
            home,
            LEASE=f"{4 * HEARTBEAT_S}s",
            HEARTBEAT=f"{HEARTBEAT_S}s",
            STATE_SAVING_INTERVAL=f"{SAVING_S}s",
        )
        with worker(env, home) as process:
            wait_for(lambda: server.counts().get("sqs ReceiveMessage", 0) > 0)
            time.sleep(SETTLED_S)
            fresh_mib = rss_mib(process.pid)
            hourly, per_attempt = calls(server, env, home)
            time.sleep(SETTLED_S)
            used_mib = rss_mib(process.pid)
    yield Row("worker, idle: memory", f"{fresh_mib:.0f} MiB", "", f"<= {IDLE_MIB} MiB", fresh_mib <= IDLE_MIB)
    yield Row("  after its first job", f"{used_mib:.0f} MiB", "", f"<= {IDLE_MIB} MiB", used_mib <= IDLE_MIB)
    yield from call_rows(hourly, per_attempt)


def call_rows(hourly: Counter[str], per_attempt: Counter[str]) -> Iterator[Row]:
    """Yield the rows for calls per job-hour, by service."""
    whole = {kind: hourly[kind] + per_attempt[kind] / HOURS_PER_ATTEMPT for kind in hourly | per_attempt}
    for service, demo, what in (
        ("sqs", DEMO_RENEWALS, "a renewal every 150 s"),
        ("s3", DEMO_PUTS, "two uploads every 10 minutes"),
    ):
        total = sum(count for kind, count in whole.items() if kind.startswith(service))
        title = {"sqs": "queue", "s3": "store"}[service]
        yield Row(f"calls to the {title} per job-hour", f"{total:.0f}", f"the demo: {demo}, {what}")
        for kind in sorted(whole, key=lambda kind: -whole[kind]):
            if kind.startswith(service):
                note = f"{hourly[kind]:.0f} while running, {per_attempt[kind]:.0f} more per attempt"
                yield Row(f"  {kind.partition(' ')[2]}", f"{whole[kind]:.1f}", note)


def calls(server: StubServer, env: Mapping[str, str], home: Path) -> tuple[Counter[str], Counter[str]]:
    """Return the calls per hour of running, and the additional calls of an attempt, both by kind."""
    steps = int((SAVINGS_COUNTED + 1.5) * SAVING_S / STEP_S)
    (home / "jobs" / "job0").mkdir(parents=True)
    (home / "jobs" / "job0" / "input.txt").write_text(f"1\n{steps}\n")
    holdfast(env, home, "upload", "jobs")
    before = Counter(server.counts())
    began = time.monotonic()
    holdfast(env, home, "submit", "--no-input", "job0", "--param", f"STEP_RUNNING_TIME={STEP_S}")
    submitted = Counter({"s3 PUT record": 1, "sqs SendMessageBatch": 1})
    first = wait_for_commit(server, 1)
    last = wait_for_commit(server, 1 + SAVINGS_COUNTED)
    wait_for(lambda: server.counts().get("sqs DeleteMessage", 0) > 0)
    ran_s = time.monotonic() - began
    time.sleep(2 * POLL_S)
    after = Counter(server.counts())
    per_saving = {kind: (last[kind] - first[kind]) / SAVINGS_COUNTED for kind in last}
    hourly = Counter({kind: round(count * SAVINGS_PER_HOUR) for kind, count in per_saving.items() if count})
    spent = after - before - submitted
    per_attempt = Counter(
        {kind: round(count - per_saving.get(kind, 0) * ran_s / SAVING_S) for kind, count in spent.items()}
    )
    return without_polls(hourly), without_polls(+per_attempt)


def without_polls(counts: Counter[str]) -> Counter[str]:
    """Remove an idle worker's polls, which do not belong to the job."""
    return Counter({kind: count for kind, count in counts.items() if kind != "sqs ReceiveMessage"})


def wait_for_commit(server: StubServer, number: int) -> Counter[str]:
    """Return the counts just after the commit of the manifest with that number."""
    wait_for(lambda: server.counts().get("s3 PUT manifest", 0) >= number)
    time.sleep(COMMITTED_S)
    return Counter(server.counts())


@contextmanager
def worker(env: Mapping[str, str], home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a worker, and drain it at the end."""
    with (home / "worker.log").open("wb") as log:
        process = subprocess.Popen([HOLDFAST, "worker"], env=env, cwd=home, stdout=log, stderr=log)
    try:
        yield process
    except BaseException:
        print((home / "worker.log").read_text()[-2000:])
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait until *is_so*.

    Raises:
        TimeoutError: It never was.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition did not hold within {PATIENCE_S:.0f} s")
        time.sleep(POLL_S)


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
