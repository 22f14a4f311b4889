"""Signed messages: proof that whoever sent one has the key, and meant it for this place.

A signed body is `{"signed": TEXT, "hmac_sha256": HEX}`. TEXT is the message itself, JSON as one string, so what is
signed comes out of any JSON reader byte for byte as it was signed, and nothing has to be brought into a canonical form.
HEX is the HMAC-SHA256 of TEXT's UTF-8 bytes under the key's. A message that does not name its place by itself, as the
demo's do, names it in `bucket` and `prefix`: so one that is copied to another queue is of no use there.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from lifecycle.errors import RejectedMessageError

SIGNED: Final = "signed"
SIGNATURE: Final = "hmac_sha256"
LAYOUT: Final = ("bucket", "prefix")
FOLDER: Final = "folder"  # of the demo's messages, which name bucket and prefix in their own way


@frozen
class Signer:
    """Signs with one key, and takes what is signed with that or with another one.

    Attributes:
        key: Signs; empty: nothing is signed, and everything is taken.
        other: Is taken as well, and never signs: the next key, or the one before, while keys are changed.
    """

    key: bytes = field(default=b"", repr=False)
    other: bytes = field(default=b"", repr=False)

    @property
    def is_enabled(self) -> bool:
        """Whether there is a key."""
        return bool(self.key)

    def sign(self, body: str, *, bucket: str, prefix: str) -> str:
        """*body*, a JSON object, signed for one place; as it was, if there is no key."""
        if not self.is_enabled:
            return body
        said = json.loads(body)
        text = body if FOLDER in said else json.dumps({**said, "bucket": bucket, "prefix": prefix})
        return json.dumps({SIGNED: text, SIGNATURE: _hmac(self.key, text.encode())})

    def verify(self, raw: Mapping[str, Any]) -> str | None:
        """The text inside of a body that was signed; None for one that was not, where none has to be.

        Without a key the signature is not looked at.

        Raises:
            RejectedMessageError: It has to be signed, and is not, or with none of our keys.
        """
        if SIGNED not in raw:
            if self.is_enabled:
                raise RejectedMessageError("the message is not signed, and this worker takes signed ones only")
            return None
        text, signature = raw[SIGNED], raw.get(SIGNATURE)
        if not isinstance(text, str):
            raise RejectedMessageError(f"`{SIGNED}` is not text")
        if self.is_enabled and not self._is_genuine(text, signature):
            raise RejectedMessageError("the message's signature is wrong: it is missing, or of another key or text")
        return text

    def _is_genuine(self, text: str, signature: object) -> bool:
        try:
            signed, given = text.encode(), bytes.fromhex(str(signature))
        except ValueError:  # half of a surrogate pair, or no digits
            return False
        keys = [key for key in (self.key, self.other) if key]
        return any(hmac.compare_digest(bytes.fromhex(_hmac(key, signed)), given) for key in keys)


UNSIGNED: Final = Signer()


def check_destination(said: Mapping[str, Any], *, bucket: str, prefix: str) -> None:
    """Find a signed message that was meant for another place.

    Raises:
        RejectedMessageError: It was, or does not say.
    """
    named = tuple(said.get(name) for name in LAYOUT)
    if named != (bucket, prefix):
        raise RejectedMessageError(
            f"the message was signed for bucket {named[0]!r:.80} and prefix {named[1]!r:.80}; "
            f"this worker serves {bucket!r} and {prefix!r}"
        )


def _hmac(key: bytes, signed: bytes) -> str:
    return hmac.new(key, signed, hashlib.sha256).hexdigest()
