"""Redaction: remove secrets from a text, in every form in which an error or a log line may quote them."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

REPLACEMENT: Final = "…"
MIN_SECRET_CHARS: Final = 4  # a shorter value is no secret, and redacting it would destroy the text


class Redactor:
    """A function that replaces each of *secrets* by an ellipsis; values below MIN_SECRET_CHARS are ignored."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= MIN_SECRET_CHARS}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        """Return *text* without the secrets."""
        return self._pattern.sub(REPLACEMENT, text) if self._pattern else text


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it is, stripped (of a pasted newline), and URL-encoded, each quoted up to twice."""
    for text in (secret, secret.strip()):
        for form in (text, quote(text, safe=""), quote(text), quote_plus(text)):
            for once in _quoted(form):
                yield from _quoted(once)  # a traceback inside a line of JSON


def _quoted(text: str) -> Iterator[str]:
    """Yield *text* as it is, and as Python and JSON escape it; Python's choice of quotes depends on the context."""
    yield text
    yield json.dumps(text)[1:-1]
    for body in (repr(text)[1:-1], repr(text.encode())[2:-1]):
        bare = body.replace("\\'", "'")
        yield from (bare, bare.replace("'", "\\'"), bare.replace('"', '\\"'))
