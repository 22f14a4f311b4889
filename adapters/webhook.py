"""Notifier that posts signed webhooks as the Standard Webhooks specification describes.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

`webhook-signature` signs the headers `webhook-id` and `webhook-timestamp` and the body. Redirects are not followed and
no proxy is used, so that signed notices go to the configured address and nowhere else.
"""

import base64
import binascii
import hashlib
import hmac
import json
import ssl
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from adapters.deadlines import WATCHDOG
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice
from lifecycle.ports.clock import Clock
from lifecycle.ports.notifier import Notifier
from lifecycle.structured_log import StructuredLogger

TIMEOUT_S: Final = 5.0  # to connect, and again for the response
TOTAL_S: Final = 10.0  # for all of it
TRIES: Final = 2  # more are left to the dispatcher's next round
PAUSE_S: Final = (0.2, 0.6)  # bounds of the random pause between them
BASE64_PREFIX: Final = "whsec_"  # the specification's prefix of a key in base64

DELIVERED: Final = range(200, 300)
REDIRECTED: Final = range(300, 400)
REFUSED: Final = range(400, 500)
REFUSED_FOR_NOW: Final = frozenset({401, 403, 404, 405, 407, 408, 409, 421, 423, 425, 429})
"""Refusals that do not concern the notice itself: a wrong key or address, which can be corrected, or too many calls."""

log = StructuredLogger("holdfast.webhook")


def key_bytes(key: str) -> bytes:
    """Return the secret bytes of *key*: base64 after the prefix `whsec_`, otherwise the text itself.

    Raises:
        ValueError: The text after the prefix is not base64.
    """
    if not key.startswith(BASE64_PREFIX):
        return key.encode()
    try:
        return base64.b64decode(key.removeprefix(BASE64_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(f"starts with {BASE64_PREFIX} but no base64 follows") from error


def sign(keys: Sequence[str], *, notice_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`: one signature per key, so that keys can be rotated without a gap."""
    signed = f"{notice_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key_bytes(key), signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


class Webhook:
    """Posts notices to one address, each over a connection of its own: there are few.

    Args:
        url: Address, http or https.
        keys: Keys that sign; the first is the current one.
        clock: Source of the signed time.
        certificates: Value of REQUESTS_CA_BUNDLE, used on a machine without CA certificates.
    """

    def __init__(self, url: str, *, keys: Sequence[str], clock: Clock, certificates: str = "") -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), parts.port
        self._target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        self._name = f"{parts.scheme}://{parts.hostname}"  # for messages: the rest of the address may be secret
        self._tls = _tls_context(certificates) if parts.scheme == "https" else None
        self._keys = keys
        self._clock = clock

    def deliver(self, keys: JobKeys, notice: Notice) -> None:
        """See `Notifier.deliver`."""
        body = json.dumps(_payload(keys, notice), separators=(",", ":")).encode()
        timestamp = int(self._clock.now().timestamp())
        try:
            signature = sign(self._keys, notice_id=notice.id, timestamp=timestamp, body=body)
        except UnicodeEncodeError as error:  # a lone surrogate in an id that was written into the record by hand
            raise PermanentError(f"cannot be signed: {error}") from error
        status = self._post(
            body,
            {
                "Content-Type": "application/json",
                "User-Agent": "holdfast",
                "webhook-id": notice.id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signature,
            },
        )
        if status in DELIVERED:
            return
        reason = f"{self._name} answers {status}"
        if status in REDIRECTED:
            raise RetryableError(f"{reason}: redirects are not followed; set WEBHOOK_URL to the final address")
        if status in REFUSED and status not in REFUSED_FOR_NOW:
            raise PermanentError(reason)
        raise RetryableError(reason)

    def _post(self, body: bytes, headers: Mapping[str, str]) -> int:
        connection: HTTPConnection
        if self._tls:
            connection = HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=self._tls)
        else:
            connection = HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            with WATCHDOG.within(connection, TOTAL_S):
                connection.request("POST", self._target, body, dict(headers))
                with connection.getresponse() as response:
                    return response.status
        except (OSError, HTTPException) as error:
            raise RetryableError(f"{self._name}: {error or type(error).__name__}") from error
        except ValueError as error:  # an id that was written into the record by hand
            raise PermanentError(f"cannot be a header: {error}") from error
        finally:
            connection.close()


class RetryingNotifier:
    """A notifier that retries once, after a short pause.

    Args:
        notifier: The notifier.
        clock: Used for the pause.
    """

    def __init__(self, notifier: Notifier, clock: Clock) -> None:
        self._notifier = notifier
        self._clock = clock

    def deliver(self, keys: JobKeys, notice: Notice) -> None:
        """See `Notifier.deliver`."""
        retrying = Retrying(
            sleep=self._clock.sleep,
            stop=stop_after_attempt(TRIES),
            wait=wait_random(*PAUSE_S),
            retry=retry_if_exception_type(RetryableError),
            before_sleep=_log_retry,
            reraise=True,
        )
        retrying(self._notifier.deliver, keys, notice)


def _log_retry(state: RetryCallState) -> None:
    log.info("webhook.retried", error=str(state.outcome.exception() if state.outcome else None))


def _payload(keys: JobKeys, notice: Notice) -> dict[str, object]:
    """Return the JSON document of a notice: the same, byte for byte, at every delivery."""
    return {
        "id": notice.id,
        "job": keys.job,
        "prefix": keys.layout.prefix,
        "state": notice.state,
        "epoch": notice.epoch,
        "number": notice.number,
        "node": notice.node,
        "at": notice.at,
        "cause": notice.cause,
        "error": notice.error,
        "progress": {"done": notice.done, "total": notice.total},
        "missed": notice.missed,
    }


def _tls_context(certificates: str) -> ssl.SSLContext:
    """Return a context with this machine's CA certificates; if it has none, as in a bare image, with boto3's."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        from adapters.aws.clients import ca_bundle  # noqa: PLC0415 - takes 0.3 s, and most machines do not need it

        context.load_verify_locations(ca_bundle(certificates))
    return context


if TYPE_CHECKING:

    def _conforms(webhook: Webhook, retrying: RetryingNotifier) -> tuple[Notifier, Notifier]:
        return webhook, retrying
