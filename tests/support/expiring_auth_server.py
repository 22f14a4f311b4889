"""A proxy in front of moto that refuses expired keys; moto itself accepts any key.

A key's id contains its expiry time, in milliseconds since the epoch, so the proxy needs no list of keys.
"""

import http.client
import re
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from support.stub import s3_error, sqs_error

NOT_OURS: Final = frozenset({"connection", "transfer-encoding", "content-length", "date", "server"})


def issue(life_s: float, *, tells: bool) -> dict[str, object]:
    """Return keys valid for *life_s* seconds in `credential_process` form; if *tells*, with their expiry time."""
    until = time.time() + life_s
    secret, token = "not-a-secret", "t"
    said = {"Version": 1, "AccessKeyId": f"AKIA{until * 1000:.0f}", "SecretAccessKey": secret, "SessionToken": token}
    return {**said, "Expiration": datetime.fromtimestamp(until, UTC).isoformat()} if tells else said


class ExpiringAuthServer:
    """The proxy.

    Args:
        port: Port of the server behind it, on this machine.

    Attributes:
        url: The proxy's endpoint.
        passed: Ids of the valid keys that were used, for the queue and for the bucket.
        refused: Number of calls refused, for each.
    """

    def __init__(self, port: int) -> None:
        self.passed: dict[str, set[str]] = {"queue": set(), "bucket": set()}
        self.refused = {"queue": 0, "bucket": 0}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(port))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def _is_valid(self, what: str, authorization: str) -> bool:
        found = re.search(r"Credential=AKIA(\d+)/", authorization)
        good = found is not None and int(found[1]) > time.time() * 1000
        with self._lock:
            if found and good:
                self.passed[what].add(found[1])
            else:
                self.refused[what] += 1
        return good

    def _handler(self, port: int) -> type[BaseHTTPRequestHandler]:
        auth_server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                is_queue = "X-Amz-Target" in self.headers
                what = "queue" if is_queue else "bucket"
                if not auth_server._is_valid(what, self.headers.get("Authorization", "")):
                    reply = (sqs_error if is_queue else s3_error)(403, "ExpiredToken")
                    self._say(reply.status, reply.headers, reply.body)
                    return
                behind = http.client.HTTPConnection("127.0.0.1", port)
                behind.request(self.command, self.path, body, dict(self.headers.items()))
                answer = behind.getresponse()
                said = answer.read()
                length = {"Content-Length": answer.headers["Content-Length"]} if self.command == "HEAD" else {}
                headers = {k: v for k, v in answer.headers.items() if k.lower() not in NOT_OURS}
                headers |= {"Date": answer.headers["Date"]} | {k: v for k, v in length.items() if v}
                self._say(answer.status, headers, said)
                behind.close()

            def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response_only(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815 - the base class's names

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                """Say nothing."""

        return Handler
