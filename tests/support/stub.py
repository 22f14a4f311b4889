"""An HTTP server whose responses a test scripts: lost responses, throttling and black holes, which no emulator has."""

import ssl
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from attrs import field, frozen

OK: Final = b"HTTP/1.1 200 OK\r\n"
BYTE_S: Final = 0.05  # between two bytes of an answer that trickles


@frozen
class Reply:
    """A scripted response.

    Attributes:
        status: HTTP status.
        body: The body; sent with its length unless *headers* give another.
        headers: Further headers; "Date" is sent only if it is among them.
        trickles: Whether the body is a thousand bytes longer, which come one by one.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(factory=dict)
    trickles: bool = False


DROP: Final = Reply(status=-1)
"""Read the request and close the connection without a response, as if it were lost on its way."""
HANG: Final = Reply(status=-2)
"""Read the request and never respond."""
CUT_SHORT: Final = Reply(status=-3)
"""Send status 200 and close the connection in the middle of the headers."""
TRICKLE: Final = Reply(status=-4)
"""Send a header one byte at a time, without end."""


@frozen
class Request:
    """A request as received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def s3_error(status: int, code: str, message: str = "as scripted") -> Reply:
    """Return an error response of S3."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(status, body.encode(), {"Content-Type": "application/xml"})


def sqs_error(status: int, code: str, message: str = "as scripted") -> Reply:
    """Return an error response of SQS: the new name in the body, and the old code in a header."""
    body = f'{{"__type": "com.amazonaws.sqs#{code}", "message": "{message}"}}'
    return Reply(status, body.encode(), {"x-amzn-query-error": f"{code};Sender"})


class Stub:
    """The server.

    Attributes:
        url: The server's endpoint.
        requests: The requests received, in order.
        hung_up: Set when a client has closed a connection on which it was sent a byte now and then.
        says_continue: Answer `Expect: 100-continue`, which Cloudflare does not.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.says_continue = True
        self.hung_up = threading.Event()
        self._replies: deque[Reply] = deque()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def script(self, *replies: Reply) -> None:
        """Send these replies in order, and then the last one again and again."""
        self._replies = deque(replies)
        self.requests.clear()

    def close(self) -> None:
        """Stop serving."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _take(self, request: Request) -> Reply:
        self.requests.append(request)
        return self._replies.popleft() if len(self._replies) > 1 else self._replies[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = stub._take(Request(self.command, self.path, headers, self.rfile.read(length)))
                if reply in (HANG, DROP, CUT_SHORT, TRICKLE) or reply.trickles:
                    self.close_connection = True
                    stub._misbehave(reply, self.wfile.write)
                else:
                    self._send(reply)

            def _send(self, reply: Reply) -> None:
                self.send_response_only(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)
                if "Content-Length" in reply.headers and self.command != "HEAD":
                    self.close_connection = True  # the length that it gave may be a lie

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815 - the base class's names

            def handle_expect_100(self) -> bool:
                return super().handle_expect_100() if stub.says_continue else True

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                """Log nothing."""

        return Handler

    def _misbehave(self, reply: Reply, send: Callable[[bytes], object]) -> None:
        if reply is HANG:
            self._closing.wait()
        elif reply is CUT_SHORT:
            send(OK + b"Server: half a na")
        elif reply is TRICKLE:
            self._trickle(OK + b"X-Endless: ", send)
        elif reply.trickles:
            given = {"Content-Length": str(len(reply.body) + 1000), **reply.headers}
            headers = "".join(f"{name}: {value}\r\n" for name, value in given.items())
            self._trickle(OK + headers.encode() + b"\r\n" + reply.body, send)

    def _trickle(self, begin: bytes, send: Callable[[bytes], object]) -> None:
        """Send *begin*, and then a byte now and then, until the client closes the connection."""
        with suppress(OSError):
            send(begin)
            while not self._closing.wait(BYTE_S):
                send(b"x")
        self.hung_up.set()
