"""The dashboard's protection: Host and Origin headers, the token, the forms' token, and the content policy.

docs/dashboard.md has the threat model. Nothing here depends on the address that a request comes from.
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
    "Referrer-Policy": "same-origin",  # with `no-referrer`, browsers post our own forms with `Origin: null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach a server that is bound to *host*."""
    address = _address(host)
    return address.is_loopback if address else host == "localhost"


def names_of(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """Return the host names that browsers may use for a server bound to *host*; a rebound DNS name is not among them.

    Args:
        host: The address that the server is bound to.
        more: Additional names.
    """
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
class SecurityRules:
    """The rules that a request must satisfy.

    Attributes:
        names: The host names that are ours.
        any_address: A bare IP address in Host is ours, too, because an address cannot be rebound.
        token: The token that visitors need; None: none.
        key: This process's key, which signs the forms' tokens.
    """

    names: frozenset[str]
    any_address: bool = False
    token: str | None = field(default=None, repr=False)
    key: bytes = field(factory=lambda: secrets.token_bytes(32), repr=False)

    def accepts_host(self, host: str) -> bool:
        """Return True if a Host header names us."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.names or (self.any_address and _address(name) is not None)

    @property
    def cookie_name(self) -> str:
        """Name of the cookie that stands for the token; it depends on the token, because cookies ignore ports."""
        return f"holdfast-{hashlib.sha256((self.token or '').encode()).hexdigest()[:8]}"

    @property
    def cookie_value(self) -> str:
        """Value of that cookie; not the token itself."""
        return hmac.digest((self.token or "").encode(), b"holdfast dashboard", "sha256").hex()

    def form_token(self, session: str) -> str:
        """Return the token that a form must contain in *session*."""
        return hmac.digest(self.key, session.encode(), "sha256").hex()


def is_equal(given: str, expected: str) -> bool:
    """Compare in a time that does not depend on the texts."""
    return hmac.compare_digest(given.encode(), expected.encode())


class SecurityMiddleware:
    """Middleware that rejects requests that break the rules, and adds HEADERS to every response.

    Args:
        app: The protected application.
        rules: The rules.
    """

    def __init__(self, app: ASGIApp, rules: SecurityRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it to the application."""
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

        answer = self._reject(request) or self._authenticate(request)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _reject(self, request: Request) -> Response | None:
        """Check the Host and Origin headers."""
        host = request.headers.get("host", "")
        if not self._rules.accepts_host(host):
            return _refuse(421, f"unknown host name {host!r:.80}; to allow it, start the dashboard with --allow-host")
        if request.method not in {"GET", "HEAD"} and not _is_same_origin(request):
            return _refuse(403, "this form was not sent from this page")
        return None

    def _authenticate(self, request: Request) -> Response | None:
        """Check the token.

        Returns:
            None if the request's cookie proves it; otherwise a response, with that cookie if the address has the token.
        """
        rules = self._rules
        if rules.token is None:
            return None
        given = request.query_params.get("token")
        if given is not None and request.method == "GET" and is_equal(given, rules.token):
            rest = [(name, text) for name, text in request.query_params.multi_items() if name != "token"]
            answer = RedirectResponse(request.url.path + (f"?{urlencode(rest)}" if rest else ""), 303)
            answer.headers.append("Set-Cookie", _cookie(rules.cookie_name, rules.cookie_value, "Lax"))
            return answer
        if is_equal(request.cookies.get(rules.cookie_name, ""), rules.cookie_value):
            return None
        return _refuse(401, "open the address that `holdfast dashboard` printed, with its token")


async def read_form(request: Request, rules: SecurityRules) -> dict[str, str] | Response:
    """Return the fields of a form that this page made for this session, or the response that rejects any other form."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            return _refuse(413, "this form is too long")
    fields = {name: texts[0] for name, texts in parse_qs(body.decode(errors="replace")).items()}
    session = request.cookies.get(SESSION, "")
    if not session or not is_equal(fields.get("form_token", ""), rules.form_token(session)):
        return _refuse(403, "this form is from an older page, or from another: go back, reload, and try again")
    return fields


def _is_same_origin(request: Request) -> bool:
    """Compare the Origin that browsers send with posted forms; without the scheme, which a proxy may change."""
    origin = urlsplit(request.headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc.lower() == request.headers.get("host", "").lower()


def _cookie(name: str, value: str, same_site: str) -> str:
    return f"{name}={value}; Path=/; HttpOnly; SameSite={same_site}"


def _refuse(status: int, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status)
