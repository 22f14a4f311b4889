"""`holdfast doctor`: everything that a newcomer gets wrong, a line each, with the remedy.

It takes no message, and removes what it writes.
"""

import importlib.util
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from adapters.aws.admin import BucketAdmin, QueueAdmin, redrive_of
from adapters.process.workloads_file import load
from client.commands.setup import MAX_RECEIVES, RETENTION_S, admins
from client.config.composition import Environment
from client.views.check_result import CheckResult
from client.views.credential_checks import guarding
from lifecycle.errors import ConfigError, HoldfastError
from lifecycle.ports.queue import JobQueue
from lifecycle.ports.store import Range
from lifecycle.record.preflight import check_conditional_writes

SKEW_S: Final = 60.0  # signatures are refused from 15 minutes on; dates in records mislead people long before
FEWEST_RECEIVES: Final = 100
LARGE: Final = 8 << 20
TRIES: Final = 5
FREE_BYTES: Final = 1 << 30
EXPECT_S: Final = 0.9  # what a client that waits for "100 Continue" loses, nearly
SLOW_S: Final = 1.0  # a beat is two calls, and has HEARTBEAT for them
OURS: Final = ("lifecycle", "adapters", "client")


def run(env: Environment, *, as_json: bool) -> int:
    """Look at everything.

    Returns:
        0; 1 if something is wrong that would lose work, or stop it.
    """
    wrong = 0
    for finding in findings(env):
        wrong += finding.is_fine is False
        if as_json:
            told = {"what": finding.what, "ok": finding.is_fine, "said": finding.said, "remedy": finding.remedy}
            print(json.dumps(told))
        else:
            print(finding.line(), flush=True)
    if not as_json:
        print("nothing is wrong" if not wrong else "1 thing is wrong" if wrong == 1 else f"{wrong} things are wrong")
    return int(bool(wrong))


def findings(env: Environment) -> Iterator[CheckResult]:
    """All of them, one after the other; what cannot be looked at because of another is left out, and said to be."""
    yield packages()
    yield workloads(env)
    yield disk(env.settings.work_dir)
    yield from guarding(env.settings, env.clock)
    yield from queue_findings(env)
    yield from store_findings(env)


def packages() -> CheckResult:
    """Nobody else's packages of our names."""
    home = Path(__file__).resolve().parents[2]
    for name in OURS:
        spec = importlib.util.find_spec(name)
        places = [Path(layout).resolve() for layout in (spec.submodule_search_locations or ())] if spec else []
        if places != [home / name]:
            where = ", ".join(map(str, places)) or "nowhere"
            remedy = "install Holdfast in an environment of its own (docs/adr/0001)"
            return CheckResult("packages", False, f"`{name}` is {where}, not ours in {home}", remedy)
    return CheckResult("packages", True, f"ours, in {home}")


def workloads(env: Environment) -> CheckResult:
    """The file of workloads can be read."""
    try:
        offered = load(env.settings.workloads)
    except ConfigError as error:
        return CheckResult("workloads", False, str(error), "mend the file, or set WORKLOADS")
    return CheckResult("workloads", True, ", ".join(offered))


def disk(layout: Path) -> CheckResult:
    """WORK_DIR can be written to, and has room."""
    there = next(each for each in (layout, *layout.parents) if each.exists())
    if not os.access(there, os.W_OK):
        return CheckResult("disk", False, f"{there} cannot be written to", "set WORK_DIR to a folder that can be")
    free = shutil.disk_usage(there).free
    said = f"{free / (1 << 30):.1f} GiB free for WORK_DIR {layout}"
    if free < FREE_BYTES:
        return CheckResult("disk", False, said, "give it room for the input, the state twice, and the output")
    return CheckResult("disk", True, said)


# ---- the queue ----


def queue_findings(env: Environment) -> Iterator[CheckResult]:
    """Keys, and attributes against our settings."""
    if not env.settings.is_cloud:
        yield reached("queue", env.queue)
        return
    try:
        queues, _ = admins(env.settings)
        attributes = queues.attributes(queues.url)
    except HoldfastError as error:
        yield CheckResult("queue", False, str(error))
        return
    if attributes is None:
        yield CheckResult(
            "queue", False, f"there is no {queues.url}", "check QUEUE_URL, its region too; or `holdfast setup`"
        )
        return
    yield CheckResult("queue", True, f"{queues.url} answers")
    yield retention(attributes)
    yield dead_letters(queues, attributes)


def reached(what: str, queue: JobQueue) -> CheckResult:
    """Whether the queue answers at all."""
    try:
        depth = queue.depth()
    except HoldfastError as error:
        return CheckResult(what, False, str(error))
    return CheckResult(what, True, f"answers: {depth.available} messages available")


def retention(attributes: Mapping[str, str]) -> CheckResult:
    """Messages are kept as long as SQS can."""
    kept_s = int(attributes.get("MessageRetentionPeriod", 0))
    said = f"keeps messages for {kept_s / 86400:g} days"
    if kept_s >= RETENTION_S:
        return CheckResult("retention", True, said)
    return CheckResult(
        "retention", False, f"{said}: a job that waits longer has no message", "`holdfast setup` makes it 14"
    )


def dead_letters(queues: QueueAdmin, attributes: Mapping[str, str]) -> CheckResult:
    """A dead-letter queue, if there is one, does not bury healthy jobs, and is there."""
    redrive = redrive_of(attributes)
    if redrive is None:
        return CheckResult(
            "dead letters", True, "no dead-letter queue: messages that are no jobs are only kept in the bucket"
        )
    arn, count = redrive
    name = arn.rpartition(":")[2]
    if count < FEWEST_RECEIVES:
        said = f"after {count} receives a message goes to {name}, and every hand-back of a duplicate counts as one"
        return CheckResult(
            "dead letters", False, f"{said}: healthy jobs are buried", f"`holdfast setup` makes it {MAX_RECEIVES}"
        )
    try:
        if queues.url_of(name) is None:
            return CheckResult(
                "dead letters", False, f"the queue names {name}, which does not exist", "`holdfast setup`"
            )
    except HoldfastError as error:
        return CheckResult("dead letters", None, f"cannot look for {name}: {error}")
    return CheckResult("dead letters", True, f"after {count} receives, in {name}")


# ---- the bucket ----


def store_findings(env: Environment) -> Iterator[CheckResult]:
    """Keys, conditions, bytes, clocks and speed."""
    try:
        if env.settings.is_cloud and not admins(env.settings)[1].exists():
            yield no_bucket(env)
            return
        check_conditional_writes(env.store, prefix=env.layout.preflight, token=secrets.token_hex(8), clock=env.clock)
    except HoldfastError as error:
        yield CheckResult("bucket", False, str(error))
        return
    yield CheckResult("bucket", True, "honours If-None-Match and If-Match")
    keys = [f"{env.layout.preflight}{secrets.token_hex(8)}" for _ in range(3 + TRIES)]
    try:
        yield from measured(env, keys[2:])
        if env.settings.is_cloud:
            bucket = admins(env.settings)[1]
            yield checksums(bucket, keys[0])
            yield expecting(bucket, keys[1])
    except HoldfastError as error:
        yield CheckResult("bytes", False, str(error))
    finally:
        env.store.delete(keys)


def no_bucket(env: Environment) -> CheckResult:
    """It may be in another jurisdiction, where R2 has another endpoint."""
    settings = env.settings
    said = f"there is no bucket {settings['BUCKET']!r} at {settings['CLOUDFLARE_URL']}"
    remedy = (
        "check BUCKET; one of R2's EU or FedRAMP jurisdiction is at https://ACCOUNT.eu.r2.cloudflarestorage.com or "
        "ACCOUNT.fedramp; or `holdfast setup` makes it"
    )
    return CheckResult("bucket", False, said, remedy)


def measured(env: Environment, keys: Sequence[str]) -> Iterator[CheckResult]:
    """What comes back, and how fast. Each key is written once, since R2 takes one write a second to a key."""
    body = os.urandom(LARGE)
    put_s = timed(lambda: env.store.put(keys[0], body))
    got: list[bytes | None] = []
    get_s = timed(lambda: got.append(env.store.get_range(Range(keys[0], 0, LARGE))))
    if got != [body]:
        yield CheckResult("bytes", False, "what was read back is not what was put", "do not use this bucket")
        return
    there, back = (LARGE / seconds / (1 << 20) for seconds in (put_s, get_s))
    yield CheckResult("bytes", True, f"come back as they were put; {there:.0f} MiB/s there, {back:.0f} MiB/s back")
    small_s = median(timed(partial(env.store.put, key, b"small")) for key in keys[1:])
    said = f"a small put takes {small_s * 1000:.0f} ms"
    if small_s > SLOW_S:
        yield CheckResult("latency", False, said, "look at the network, and for a proxy on the way")
    else:
        yield CheckResult("latency", True, said)
    yield clock(env)


def checksums(bucket: BucketAdmin, key: str) -> CheckResult:
    """Whether what breaks on its way is found out at once, or when it is read."""
    if bucket.refuses_wrong_bytes(key):
        return CheckResult("checksums", True, "a body that is not what its checksum says is refused")
    said = "a body that is not what its checksum says is taken; it would be found out when it is read back"
    return CheckResult("checksums", None, said)


def expecting(bucket: BucketAdmin, key: str) -> CheckResult:
    """Cloudflare sends no "100 Continue"; we do not wait for it, but who uses boto3 as it comes does."""
    took_s = bucket.put_with_expect_s(key)
    if took_s > EXPECT_S:
        return CheckResult(
            "100-continue", True, f"never comes: boto3 by itself loses {took_s:.1f} s a put; we do not wait"
        )
    return CheckResult("100-continue", True, "costs nothing here, and we do not wait for it")


def timed(call: Callable[[], object]) -> float:
    """Seconds that *message* takes."""
    began = time.perf_counter()
    call()
    return max(time.perf_counter() - began, 1e-6)


def clock(env: Environment) -> CheckResult:
    """This machine's clock beside the store's: signatures need it within 15 minutes; leases do not."""
    if not env.settings.is_cloud:
        return CheckResult("clock", True, "the store's clock is this machine's")
    theirs = admins(env.settings)[1].time()
    if theirs is None:
        return CheckResult("clock", None, "the store does not tell its time")
    off_s = (datetime.now(UTC) - theirs).total_seconds()
    if abs(off_s) > SKEW_S:
        return CheckResult(
            "clock", False, f"this machine's clock is {off_s:+.0f} s off the store's", "set it right: NTP"
        )
    return CheckResult("clock", True, f"within {abs(off_s) + 1:.0f} s of the store's")
