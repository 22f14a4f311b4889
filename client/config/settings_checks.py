"""Checks of the settings against each other, and of the places that they name."""

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from lifecycle.durations import show
from lifecycle.errors import ConfigError
from lifecycle.limits import DELIVERY_LIMIT

if TYPE_CHECKING:
    from client.config.settings import Settings

HEARTBEATS_PER_LEASE: Final = 4
LONGEST_LEASE: Final = timedelta(hours=12)


def check_settings(settings: "Settings", names: Sequence[str]) -> None:
    """Check the settings against each other.

    Args:
        settings: The settings.
        names: The names of all settings, in the order in which messages name them.

    Raises:
        ConfigError: Some settings contradict others, or are missing.
    """
    _check_places(settings, names)
    _check_http(settings)
    if settings.job_signing_key_other and not settings.job_signing_key:
        raise ConfigError("JOB_SIGNING_KEY_OTHER is set, so JOB_SIGNING_KEY must be set too: it is the one that signs")
    if settings.webhook_url and not settings.webhook_key:
        raise ConfigError("WEBHOOK_URL is set, so WEBHOOK_KEY must be set too: it signs what is sent there")
    _check_durations(settings)


def check_bucket(settings: "Settings") -> None:
    """Check that the bucket is named: only a worker that takes the SaladCloud demo's messages needs none.

    Raises:
        ConfigError: QUEUE_URL is set, but BUCKET is not.
    """
    if settings.is_cloud and not settings.bucket:
        raise ConfigError(
            "QUEUE_URL is set, so BUCKET must be set too; only a worker can do without it, if its messages name one"
        )


def untrusted(name: str, file: str, own: Path | None) -> str:
    """Return the message about a setting that is not taken from *file*, which was merely found."""
    elsewhere = f", or move it to {own}" if own else ""
    return (
        f"{file}: {name} is not read from a file in the current folder, because the file may have come with a download"
        f" and {name} runs programs or says where keys are sent: pass `--config {file}`{elsewhere}"
    )


def _check_places(settings: "Settings", names: Sequence[str]) -> None:
    """Check that either all or none of the settings are given that name the queue and the bucket."""
    places = {"QUEUE_URL": settings.queue_url, "CLOUDFLARE_URL": settings.store_url, "BUCKET": settings.bucket}
    given = [name for name in names if places.get(name)]
    if not given:
        return
    missing = {
        *(name for name in places if name not in given),
        *(settings.queue_keys.missing() if settings.queue_url else ()),
        *settings.store_keys.missing(),
    }
    if missing - {"BUCKET"}:
        verb = "is" if len(given) == 1 else "are"
        needed = ", ".join(name for name in names if name in missing)
        remedy = "" if "QUEUE_URL" in given else f"; to work on files in {settings.home}, unset {' and '.join(given)}"
        raise ConfigError(f"{' and '.join(given)} {verb} set, so {needed} must be set too{remedy}")


def _check_http(settings: "Settings") -> None:
    """Check that keys and data go to other hosts only over TLS, unless ALLOW_HTTP says otherwise."""
    if settings.allow_http:
        return
    for name, url in (
        ("QUEUE_URL", settings.queue_url),
        ("CLOUDFLARE_URL", settings.store_url),
        ("WEBHOOK_URL", settings.webhook_url),
    ):
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ConfigError(
                f"{name} begins with http:// and names another host, so anyone on the way can read what is sent there:"
                " use https://, or set ALLOW_HTTP=yes in a network that you trust"
            )


def is_loopback(host: str) -> bool:
    """Return True if *host* is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_durations(settings: "Settings") -> None:
    lease, heartbeat, origins = settings.lease, settings.heartbeat, settings.origins
    if heartbeat * HEARTBEATS_PER_LEASE > lease:
        raise ConfigError(
            f"HEARTBEAT={show(heartbeat)} must be at most a quarter of LEASE={show(lease)}, "
            "so that a missed heartbeat does not lose the lease "
            f"(from {origins['HEARTBEAT']} and {origins['LEASE']})"
        )
    if lease >= LONGEST_LEASE:
        raise ConfigError(
            f"LEASE={show(lease)} must be shorter than 12h, the longest time for which SQS hides a message "
            f"(from {origins['LEASE']})"
        )
    if settings.max_running_time > DELIVERY_LIMIT:
        raise ConfigError(
            f"MAX_RUNNING_TIME={show(settings.max_running_time)} must be at most {show(DELIVERY_LIMIT)}: an attempt has"
            f" to pause before the queue's 12-hour limit; a job may run for any length of time"
            f" (from {origins['MAX_RUNNING_TIME']})"
        )
