"""What `holdfast doctor` has to say of signatures, and of keys and how long they last."""

from collections.abc import Iterator
from typing import Final

from adapters.aws.clients import Credentials
from adapters.aws.credentials import RefreshingCredentials
from client.config.credential_sources import queue_keys, store_keys
from client.config.settings import Settings
from client.views.check_result import CheckResult
from lifecycle.errors import ConfigError
from lifecycle.ports.clock import Clock

HELP: Final = "docs/security.md says what it must give"


def guarding(settings: Settings, clock: Clock) -> Iterator[CheckResult]:
    """A line on signing; and on files none of keys, since there are none."""
    yield signing(settings)
    if settings.is_cloud:
        yield keys("keys for the queue", "AWS", queue_keys(settings, clock), clock)
        yield keys("keys for the bucket", "CLOUDFLARE", store_keys(settings, clock), clock)


def signing(settings: Settings) -> CheckResult:
    """Whether messages are signed, and with how many keys one may be."""
    if not settings.signer().is_enabled:
        return CheckResult("signing", True, "off: whoever may send to the queue may start any workload of the image")
    also = "; those of JOB_SIGNING_KEY_OTHER are taken too" if settings["JOB_SIGNING_KEY_OTHER"] else ""
    return CheckResult("signing", True, f"on: workers with this setting take messages signed with this key only{also}")


def keys(what: str, owner: str, used: object, clock: Clock) -> CheckResult:
    """When keys expire, and who renews them."""
    file = f"{owner}_CREDENTIALS_FILE or {owner}_CREDENTIALS_COMMAND"
    if isinstance(used, RefreshingCredentials):
        return _renewed(what, used, clock)
    if isinstance(used, Credentials) and used.token:
        said = f"{owner}_TOKEN makes them short-lived, and nothing renews them: a worker ends soon after they expire"
        return CheckResult(what, None, said, f"let {file} renew them")
    return CheckResult(what, True, f"{owner}_ID and {owner}_KEY, which do not expire")


def _renewed(what: str, used: RefreshingCredentials, clock: Clock) -> CheckResult:
    try:
        expires = used.current().expires
    except ConfigError as error:
        return CheckResult(what, False, str(error), HELP)
    if expires is None:
        return CheckResult(
            what, True, f"from {used.origin}, which does not say when they expire: read again when refused"
        )
    left_s = (expires - clock.now()).total_seconds()
    if left_s <= 0:
        return CheckResult(what, False, f"those from {used.origin} expired {-left_s:.0f} s ago", "renew them")
    return CheckResult(what, True, f"from {used.origin}, expire in {left_s / 60:.0f} min; read again before that")
