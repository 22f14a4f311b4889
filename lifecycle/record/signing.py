"""Signatures of messages: proof that a sender has the key, and addressed the message to this bucket and prefix.

A signed body is `{"signed": TEXT, "hmac_sha256": HEX}`. TEXT is the message as one JSON string, so every JSON reader
returns exactly the bytes that were signed, and no canonical form is needed. HEX is the HMAC-SHA256
(https://www.rfc-editor.org/rfc/rfc2104) of TEXT's UTF-8 bytes. A message that does not name its destination (the
messages of the SaladCloud demo do) carries it in `bucket` and `prefix`, so that a copy is refused by the workers of
another queue.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from lifecycle.errors import ForeignMessageError, RejectedMessageError

SIGNED: Final = "signed"
SIGNATURE: Final = "hmac_sha256"
DESTINATION: Final = ("bucket", "prefix")
FOLDER: Final = "folder"  # messages of the SaladCloud demo name the bucket and the job's folder in their own fields


@frozen
class Signer:
    """Signs messages with one key, and verifies those that were signed with it or with a second one.

    Attributes:
        key: Key to sign with. If it is empty, nothing is signed and nothing is verified.
        other: Second key that is accepted, and never signs: the next or the previous one while keys are rotated.
    """

    key: bytes = field(default=b"", repr=False)
    other: bytes = field(default=b"", repr=False)

    @property
    def is_enabled(self) -> bool:
        """True if messages must be signed."""
        return bool(self.key)

    def sign(self, body: str, *, bucket: str, prefix: str) -> str:
        """Return *body* signed for one destination; *body* itself if signing is disabled.

        Args:
            body: A JSON object.
            bucket: Bucket of the destination.
            prefix: Prefix of the destination.
        """
        if not self.is_enabled:
            return body
        message = json.loads(body)
        text = body if FOLDER in message else json.dumps({**message, "bucket": bucket, "prefix": prefix})
        return json.dumps({SIGNED: text, SIGNATURE: _hmac(self.key, text.encode())})

    def verify(self, raw: Mapping[str, Any]) -> str | None:
        """Return the text inside a signed body, after checking the signature if signing is enabled.

        Returns:
            The text; None if the body is not signed and does not have to be.

        Raises:
            RejectedMessageError: The body has to be signed and is not, or not with one of the keys.
        """
        if SIGNED not in raw:
            if self.is_enabled:
                raise RejectedMessageError("the message is not signed, and this worker takes signed ones only")
            return None
        text, signature = raw[SIGNED], raw.get(SIGNATURE)
        if not isinstance(text, str):
            raise RejectedMessageError(f"`{SIGNED}` is not text")
        if self.is_enabled and not self._is_genuine(text, signature):
            raise RejectedMessageError(
                "the message's signature is wrong: it is missing, or belongs to another key or text"
            )
        return text

    def _is_genuine(self, text: str, signature: object) -> bool:
        try:
            signed, given = text.encode(), bytes.fromhex(str(signature))
        except ValueError:  # TEXT contains half of a surrogate pair, or HEX something other than digits
            return False
        keys = [key for key in (self.key, self.other) if key]
        return any(hmac.compare_digest(bytes.fromhex(_hmac(key, signed)), given) for key in keys)


UNSIGNED: Final = Signer()
"""Signs nothing and accepts everything."""


def check_destination(message: Mapping[str, Any], *, bucket: str, prefix: str) -> None:
    """Check that *message* is meant for *bucket* and *prefix*.

    Raises:
        ForeignMessageError: It is meant for another destination.
        RejectedMessageError: It does not name one.
    """
    named = tuple(message.get(name) for name in DESTINATION)
    if not all(isinstance(name, str) for name in named):
        raise RejectedMessageError(
            f"the message is for bucket {named[0]!r:.80} and prefix {named[1]!r:.80}: both must be text"
        )
    if named != (bucket, prefix):
        raise ForeignMessageError(f"bucket {named[0]!r:.80} and prefix {named[1]!r:.80}")


def _hmac(key: bytes, signed: bytes) -> str:
    return hmac.new(key, signed, hashlib.sha256).hexdigest()
