"""Masking: secrets are taken out of a text, wherever they stand in it, in every form that an error may quote."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "…"
SHORTEST: Final = 4  # characters; what is shorter is no secret, and masking it would eat up the text


class Redactor:
    """Replaces each of *secrets* by an ellipsis. A secret of fewer than SHORTEST characters is left."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        """*text* without the secrets."""
        return self._pattern.sub(MASK, text) if self._pattern else text


def _forms(secret: str) -> Iterator[str]:
    """As it is, without white space around it (a pasted newline), as in an address; each quoted up to twice."""
    for text in (secret, secret.strip()):
        for form in (text, quote(text, safe=""), quote(text), quote_plus(text)):
            for once in _quoted(form):
                yield from _quoted(once)  # a traceback in a line of JSON


def _quoted(text: str) -> Iterator[str]:
    """As it is, and as Python and JSON escape it; which marks Python escapes depends on what stands around."""
    yield text
    yield json.dumps(text)[1:-1]
    for body in (repr(text)[1:-1], repr(text.encode())[2:-1]):
        bare = body.replace("\\'", "'")
        yield from (bare, bare.replace("'", "\\'"), bare.replace('"', '\\"'))
