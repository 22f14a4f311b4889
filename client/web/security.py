"""Who may use the page: the Host and Origin headers, the token, the forms' own token, and what browsers may load.

docs/dashboard.md has the threat model. Nothing here decides by the address that a request comes from.
"""

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from attrs import field, frozen
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_FORM: Final = 4096
SESSION: Final = "holdfast-session"
SESSION_BYTES: Final = 24
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with `no-referrer` browsers post our own forms with `Origin: null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to *host*."""
    address = _address(host)
    return address.is_loopback if address else host == "localhost"


def names_of(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """The names that a browser may call us by if we are bound to *host*: a rebound DNS name is none of them."""
    if is_loopback(host):
        return LOOPBACK | {host.lower(), *(name.lower() for name in more)}
    own = {socket.gethostname(), socket.getfqdn(), host, *more}
    return LOOPBACK | {name.lower() for name in own if name}


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


@frozen
class Rules:
    """What is asked of a request.

    Attributes:
        names: The names in Host that are ours.
        any_address: Whether a bare address in Host is ours too: nobody can rebind one.
        token: What whoever looks must have; None: nothing.
        key: Of this process: signs the forms' tokens.
    """

    names: frozenset[str]
    any_address: bool = False
    token: str | None = field(default=None, repr=False)
    key: bytes = field(factory=lambda: secrets.token_bytes(32), repr=False)

    def knows(self, host: str) -> bool:
        """Whether a Host header names us."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.names or (self.any_address and _address(name) is not None)

    @property
    def pass_name(self) -> str:
        """The cookie that stands for the token: another for each token, as cookies know no ports."""
        return f"holdfast-{hashlib.sha256((self.token or '').encode()).hexdigest()[:8]}"

    @property
    def pass_value(self) -> str:
        """What is in it: not the token itself."""
        return hmac.digest((self.token or "").encode(), b"holdfast dashboard", "sha256").hex()

    def form_token(self, session: str) -> str:
        """What a form must bring back in *session*."""
        return hmac.digest(self.key, session.encode(), "sha256").hex()


def is_equal(given: str, right: str) -> bool:
    """Compare in a time that does not say how much of it was right."""
    return hmac.compare_digest(given.encode(), right.encode())


class Guard:
    """Middleware: answers what is not to be let through, and adds HEADERS to every answer.

    Args:
        app: What is guarded.
        rules: Against whom.
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        session = request.cookies.get(SESSION) or secrets.token_urlsafe(SESSION_BYTES)
        scope["state"] = {**scope.get("state", {}), "form_token": self._rules.form_token(session)}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
                if SESSION not in request.cookies:
                    headers.append("Set-Cookie", _cookie(SESSION, session, "Strict"))
            await send(message)

        answer = self._refuse(request) or self._admit(request)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refuse(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if not self._rules.knows(host):
            return _no(421, f"this page is not called {host!r:.80}; if it should be, start it with --allow-host")
        if request.method not in {"GET", "HEAD"} and not _is_same_origin(request):
            return _no(403, "this form was not sent from this page")
        return None

    def _admit(self, request: Request) -> Response | None:
        """None for whoever has the token, in a cookie; a cookie for whoever brings it in the address."""
        rules = self._rules
        if rules.token is None:
            return None
        given = request.query_params.get("token")
        if given is not None and request.method == "GET" and is_equal(given, rules.token):
            rest = [(name, text) for name, text in request.query_params.multi_items() if name != "token"]
            answer = RedirectResponse(request.url.path + (f"?{urlencode(rest)}" if rest else ""), 303)
            answer.headers.append("Set-Cookie", _cookie(rules.pass_name, rules.pass_value, "Lax"))
            return answer
        if is_equal(request.cookies.get(rules.pass_name, ""), rules.pass_value):
            return None
        return _no(401, "open the address that `holdfast dashboard` printed, with its token")


async def read_form(request: Request, rules: Rules) -> dict[str, str] | Response:
    """The fields of a form that this page made for this session; or the answer to one that it did not."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            return _no(413, "this form is too long")
    fields = {name: texts[0] for name, texts in parse_qs(body.decode(errors="replace")).items()}
    session = request.cookies.get(SESSION, "")
    if not session or not is_equal(fields.get("form_token", ""), rules.form_token(session)):
        return _no(403, "this form is of an older page, or of another: go back, reload, and try again")
    return fields


def _is_same_origin(request: Request) -> bool:
    """By Origin, which every browser sends with a form that is posted; not by the scheme, which a proxy may change."""
    origin = urlsplit(request.headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc.lower() == request.headers.get("host", "").lower()


def _cookie(name: str, value: str, same_site: str) -> str:
    return f"{name}={value}; Path=/; HttpOnly; SameSite={same_site}"


def _no(status: int, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status)
