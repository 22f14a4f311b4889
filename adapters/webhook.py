"""Webhooks: notices as signed HTTP POSTs, in the manner of the Standard Webhooks specification.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: the headers `webhook-id`,
`webhook-timestamp` and `webhook-signature`, which signs both and the body. Redirects are not followed and no proxy is
used: what is signed goes where the operator said, and nowhere else.
"""

import base64
import binascii
import hashlib
import hmac
import json
import logging
import ssl
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from lifecycle.errors import PermanentError, RetryableError
from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice
from lifecycle.ports.clock import Clock
from lifecycle.ports.notifier import Notifier

TIMEOUT_S: Final = 5.0  # to connect, and again for the answer
TRIES: Final = 2  # the postman's next look is the better try
PAUSE_S: Final = (0.2, 0.6)
PREFIX: Final = "whsec_"  # as the specification writes keys: base64 follows

DELIVERED: Final = range(200, 300)
MOVED: Final = range(300, 400)
REFUSED: Final = range(400, 500)
MENDABLE: Final = frozenset({401, 403, 404, 405, 407, 408, 409, 421, 423, 425, 429})
"""Refusals that say nothing of the notice itself: a wrong key or address, or too soon. Somebody will put that right."""

log = logging.getLogger("holdfast.webhook")


def key_bytes(key: str) -> bytes:
    """The secret that *key* writes: after `whsec_` it is base64, otherwise the text itself.

    Raises:
        ValueError: It is no base64.
    """
    if not key.startswith(PREFIX):
        return key.encode()
    try:
        return base64.b64decode(key.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(f"starts with {PREFIX}, but what follows is no base64") from error


def sign(keys: Sequence[str], *, notice_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each of *keys*, so that keys can be changed without a gap."""
    signed = f"{notice_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key_bytes(key), signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


class Webhook:
    """Posts notices to one address. A connection for each: there are few.

    Args:
        url: Where to; http or https.
        keys: Sign; the first is the current one.
        clock: For the time that is signed.
    """

    def __init__(self, url: str, *, keys: Sequence[str], clock: Clock) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), parts.port
        self._target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        self._name = f"{parts.scheme}://{parts.hostname}"  # the rest of an address may be a secret
        self._tls = _trust() if parts.scheme == "https" else None
        self._keys = keys
        self._clock = clock

    def deliver(self, keys: JobKeys, notice: Notice) -> None:
        """See `Notifier.deliver`."""
        body = json.dumps(_told(keys, notice), separators=(",", ":")).encode()
        timestamp = int(self._clock.now().timestamp())
        signature = sign(self._keys, notice_id=notice.id, timestamp=timestamp, body=body)
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
        why = f"{self._name} answers {status}"
        if status in MOVED:
            raise RetryableError(f"{why}: redirects are not followed; let WEBHOOK_URL be where it leads")
        if status in REFUSED and status not in MENDABLE:
            raise PermanentError(why)
        raise RetryableError(why)

    def _post(self, body: bytes, headers: Mapping[str, str]) -> int:
        connection: HTTPConnection
        if self._tls:
            connection = HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=self._tls)
        else:
            connection = HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", self._target, body, dict(headers))
            with connection.getresponse() as answer:
                return answer.status
        except (OSError, HTTPException) as error:
            raise RetryableError(f"{self._name}: {error or type(error).__name__}") from error
        except ValueError as error:  # an id that somebody wrote into the record by hand
            raise PermanentError(f"cannot be a header: {error}") from error
        finally:
            connection.close()


class RetryingNotifier:
    """A herald that tries again at once, in case it was only a hiccup.

    Args:
        notifier: The herald.
        clock: For the pause.
    """

    def __init__(self, notifier: Notifier, clock: Clock) -> None:
        self._notifier = notifier
        self._clock = clock

    def deliver(self, keys: JobKeys, notice: Notice) -> None:
        """See `Notifier.deliver`."""
        again = Retrying(
            sleep=self._clock.sleep,
            stop=stop_after_attempt(TRIES),
            wait=wait_random(*PAUSE_S),
            retry=retry_if_exception_type(RetryableError),
            before_sleep=_tell,
            reraise=True,
        )
        again(self._notifier.deliver, keys, notice)


def _tell(state: RetryCallState) -> None:
    log.info("not delivered at the first try: %s", state.outcome.exception() if state.outcome else None)


def _told(keys: JobKeys, notice: Notice) -> dict[str, object]:
    """What a receiver reads: the same, byte for byte, whenever this notice is delivered."""
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


def _trust() -> ssl.SSLContext:
    """Whom this machine trusts; in an image without any certificates, whom boto3 brings along."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        from adapters.aws.clients import certificates  # noqa: PLC0415 - 0.3 s that most do without

        context.load_verify_locations(certificates())
    return context


if TYPE_CHECKING:

    def _conforms(webhook: Webhook, retrying: RetryingNotifier) -> tuple[Notifier, Notifier]:
        return webhook, retrying
