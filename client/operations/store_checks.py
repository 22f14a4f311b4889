"""Doctor's checks of the bucket: credentials, conditional writes, bytes, checksums, clock, speed."""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Final

from adapters.aws.admin import BucketAdmin
from client.config.composition import open_admins
from client.config.environment import Environment
from client.views.check_result import CheckResult
from lifecycle.errors import HoldfastError
from lifecycle.ports.store import Range
from lifecycle.record.preflight import check_conditional_writes

SKEW_S: Final = 60.0  # signatures are refused from 15 minutes on; times in records mislead people long before
LARGE: Final = 8 << 20
MIB: Final = 1 << 20
TRIES: Final = 5
CONTINUE_S: Final = 0.9  # a client that waits in vain for "100 Continue" waits 1 s
SLOW_S: Final = 1.0  # a heartbeat makes two calls, and has HEARTBEAT for them


def check_store(env: Environment) -> Iterator[CheckResult]:
    """Check the bucket with objects that are deleted afterwards. A check that depends on a failed one is left out."""
    try:
        if env.settings.is_cloud and not open_admins(env.settings)[1].exists():
            yield _no_bucket(env)
            return
        check_conditional_writes(env.store, prefix=env.layout.preflight, token=secrets.token_hex(8), clock=env.clock)
    except HoldfastError as error:
        yield CheckResult("bucket", False, str(error))
        return
    yield CheckResult("bucket", True, "honours If-None-Match and If-Match")
    keys = [f"{env.layout.preflight}{secrets.token_hex(8)}" for _ in range(3 + TRIES)]
    try:
        yield from _check_transfer(env, keys[2:])
        if env.settings.is_cloud:
            bucket = open_admins(env.settings)[1]
            yield check_checksums(bucket, keys[0])
            yield check_continue(bucket, keys[1])
    except HoldfastError as error:
        yield CheckResult("bytes", False, str(error))
    finally:
        env.store.delete(keys)


def _no_bucket(env: Environment) -> CheckResult:
    settings = env.settings
    finding = f"there is no bucket {settings.bucket!r} at {settings.store_url}"
    remedy = (
        "check BUCKET; a bucket in R2's EU or FedRAMP jurisdiction is at https://ACCOUNT.eu.r2.cloudflarestorage.com"
        " or ACCOUNT.fedramp; or create it with `holdfast setup`"
    )
    return CheckResult("bucket", False, finding, remedy)


def _check_transfer(env: Environment, keys: Sequence[str]) -> Iterator[CheckResult]:
    """Check bytes, speed and clock. Each key is written once, because R2 allows one write per second to a key."""
    body = os.urandom(LARGE)
    put_s = _timed(lambda: env.store.put(keys[0], body))
    got: list[bytes | None] = []
    get_s = _timed(lambda: got.append(env.store.get_range(Range(keys[0], 0, LARGE))))
    if got != [body]:
        yield CheckResult("bytes", False, "an object was read back with other bytes", "do not use this bucket")
        return
    up, down = (LARGE / seconds / MIB for seconds in (put_s, get_s))
    yield CheckResult("bytes", True, f"read back as written; {up:.0f} MiB/s up, {down:.0f} MiB/s down")
    small_s = median(_timed(partial(env.store.put, key, b"small")) for key in keys[1:])
    finding = f"a small put takes {small_s * 1000:.0f} ms"
    if small_s > SLOW_S:
        yield CheckResult("latency", False, finding, "check the network, and for a proxy on the way")
    else:
        yield CheckResult("latency", True, finding)
    yield check_clock(env)


def check_checksums(bucket: BucketAdmin, key: str) -> CheckResult:
    """Check if the store refuses a body that does not match its checksum."""
    if bucket.refuses_wrong_bytes(key):
        return CheckResult("checksums", True, "a body that does not match its checksum is refused")
    finding = "a body that does not match its checksum is accepted; Holdfast would notice when it reads it back"
    return CheckResult("checksums", None, finding)


def check_continue(bucket: BucketAdmin, key: str) -> CheckResult:
    """Report if the store sends "100 Continue". Cloudflare does not; Holdfast does not wait for it, but boto3 does."""
    took_s = bucket.put_with_expect_s(key)
    if took_s > CONTINUE_S:
        finding = f"never sent: boto3 by itself loses {took_s:.1f} s per put; Holdfast does not wait for it"
        return CheckResult("100-continue", True, finding)
    return CheckResult("100-continue", True, "costs nothing here, and Holdfast does not wait for it")


def check_clock(env: Environment) -> CheckResult:
    """Compare this machine's clock with the store's: signatures need them within 15 minutes; leases do not."""
    if not env.settings.is_cloud:
        return CheckResult("clock", True, "the store's clock is this machine's")
    theirs = open_admins(env.settings)[1].time()
    if theirs is None:
        return CheckResult("clock", None, "the store does not send its time")
    off_s = (datetime.now(UTC) - theirs).total_seconds()
    if abs(off_s) > SKEW_S:
        finding = f"this machine's clock is {off_s:+.0f} s off the store's"
        return CheckResult("clock", False, finding, "synchronize it with NTP")
    return CheckResult("clock", True, f"within {abs(off_s) + 1:.0f} s of the store's")


def _timed(call: Callable[[], object]) -> float:
    """Return the seconds that *call* takes."""
    began = time.perf_counter()
    call()
    return max(time.perf_counter() - began, 1e-6)
