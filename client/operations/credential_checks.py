"""Doctor's checks of message signing and of credentials."""

from collections.abc import Iterator
from typing import Final

from adapters.aws.clients import Credentials
from adapters.aws.credentials import RefreshingCredentials
from client.config.credential_sources import queue_credentials, store_credentials
from client.config.settings import Settings
from client.views.check_result import CheckResult
from lifecycle.errors import ConfigError
from lifecycle.ports.clock import Clock

REMEDY: Final = "see docs/security.md for the form that it must have"


def check_credentials(settings: Settings, clock: Clock) -> Iterator[CheckResult]:
    """Check signing, and, unless local files are used, the keys of the queue and the bucket."""
    yield check_signing(settings)
    if settings.is_cloud:
        yield check_keys("keys for the queue", "AWS", queue_credentials(settings, clock), clock)
        yield check_keys("keys for the bucket", "CLOUDFLARE", store_credentials(settings, clock), clock)


def check_signing(settings: Settings) -> CheckResult:
    """Report if messages are signed, and if a second key is accepted."""
    if not settings.signer().is_enabled:
        finding = "off: anyone who may send to the queue may start any workload of the image"
        return CheckResult("signing", True, finding)
    other = "; those of JOB_SIGNING_KEY_OTHER are accepted too" if settings.job_signing_key_other else ""
    return CheckResult(
        "signing", True, f"on: workers with this setting accept only messages signed with its key{other}"
    )


def check_keys(subject: str, owner: str, credentials: object, clock: Clock) -> CheckResult:
    """Report when keys expire, and how they are renewed.

    Args:
        subject: Name of the check.
        owner: Beginning of the settings' names: `AWS` or `CLOUDFLARE`.
        credentials: The credentials in use.
        clock: For the time that is left.
    """
    sources = f"{owner}_CREDENTIALS_FILE or {owner}_CREDENTIALS_COMMAND"
    if isinstance(credentials, RefreshingCredentials):
        return _check_renewed(subject, credentials, clock)
    if isinstance(credentials, Credentials) and credentials.token:
        finding = (
            f"{owner}_TOKEN makes them short-lived, and nothing renews them: a worker exits soon after they expire"
        )
        return CheckResult(subject, None, finding, f"use {sources} instead")
    return CheckResult(subject, True, f"{owner}_ID and {owner}_KEY, which do not expire")


def _check_renewed(subject: str, credentials: RefreshingCredentials, clock: Clock) -> CheckResult:
    origin = credentials.origin
    try:
        expires = credentials.current().expires
    except ConfigError as error:
        return CheckResult(subject, False, str(error), REMEDY)
    if expires is None:
        return CheckResult(subject, True, f"from {origin}, without an expiry time: read again when refused")
    left_s = (expires - clock.now()).total_seconds()
    if left_s <= 0:
        return CheckResult(subject, False, f"those from {origin} expired {-left_s:.0f} s ago", "renew them")
    return CheckResult(subject, True, f"from {origin}, expire in {left_s / 60:.0f} min; read again before that")
