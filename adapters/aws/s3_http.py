"""Calls signed by botocore's own signer and sent over plain connections, without boto3's client around them.

A record is put for every job that is submitted, and at every heartbeat; a look at all jobs lists and gets them by the
thousand. boto3's client spends most of its time on what never changes from one call to the next, and on parsing
(benchmarks/submitting.py, listing.py). A pack is put so as well: from the memory that it was put together in. Whatever
is done so is sent once. Where a proxy stands between, the client is used, as for all the rest.
"""

import hashlib
import socket
import ssl
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlencode, urlsplit
from weakref import finalize

from attrs import frozen
from botocore.auth import UNSIGNED_PAYLOAD, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError, HTTPClientError
from botocore.utils import get_environ_proxies
from urllib3.util import wait_for_read

from adapters.aws.clients import ClientKind, Credentials, Keys, certificates, signing_keys
from lifecycle.ports.store import Body

IDLE_CONNECTIONS: Final = 64  # `submit` puts as many records at once
PIECE: Final = 1 << 20  # sent at once: a time-out is for so much, not for a whole pack
LONGEST: Final = {"PUT": 1 << 16, "GET": 1 << 28}  # bytes of an answer; a proxy's page is none
OPERATIONS: Final = {"PUT": "PutObject", "GET": "GetObject"}
OK: Final = 200
EMPTY: Final[Mapping[str, str]] = MappingProxyType({})
PORTS: Final = {"http": 80, "https": 443}


def is_plain_way(endpoint: str) -> bool:
    """Whether no proxy stands between us and *endpoint*; a `S3Http` knows nothing of those."""
    return urlsplit(endpoint).scheme not in get_environ_proxies(endpoint)


@frozen
class Answer:
    """What the store said: every header, and the whole body."""

    headers: Message
    body: bytes


class S3Http:
    """Calls of one bucket; thread-safe.

    Args:
        endpoint: The store's, as boto3 takes it.
        region: Signed, and checked by nobody but AWS.
        credentials: Whose; a call that is refused goes out again if they have changed.
        bucket: Where to.
        kind: For the time-outs, and whether bodies are hashed for the signature; without TLS they always are.
    """

    def __init__(self, *, endpoint: str, region: str, credentials: Keys, bucket: str, kind: ClientKind) -> None:
        self._folder = f"{endpoint.rstrip('/')}/{bucket}/"
        self._layout = urlsplit(endpoint)
        self._host = self._layout.netloc.removesuffix(f":{PORTS[self._layout.scheme]}")  # as it is signed
        self._kind = kind
        self._credentials = credentials
        self._region = region
        self._signs_body = kind.signs_body or self._layout.scheme != "https"
        self._tls = _trusting(certificates()) if self._layout.scheme == "https" else None
        self._idle: deque[HTTPConnection] = deque()
        self.close = finalize(self, _close_all, self._idle)

    def put(self, key: str, body: Body, *, headers: Mapping[str, str] = EMPTY) -> str:
        """Send it, once.

        Args:
            key: ASCII.
            body: All of it.
            headers: `Content-MD5`, say, and a condition: `If-Match` or `If-None-Match`.

        Returns:
            The ETag, quotes included.

        Raises:
            ClientError: The store's answer is an error, in botocore's own form.
            HTTPClientError: There was no answer, or half of one: whether it landed is not known.
        """
        answer = self._send("PUT", quote(key, safe="/-._~"), body, headers)
        return answer.headers["ETag"] or _incomplete("an ETag")

    def get(self, key: str) -> Answer:
        """Read an object, whole, with its ETag and when it was written.

        Raises:
            ClientError: The store's answer is an error, in botocore's own form.
            HTTPClientError: There was no answer, or half of one.
        """
        answer = self._send("GET", quote(key, safe="/-._~"))
        for name in ("ETag", "Last-Modified"):
            if not answer.headers[name]:
                _incomplete(name)
        return answer

    def ask(self, **query: str) -> Answer:
        """Ask the bucket itself, as a listing does.

        Raises:
            ClientError: The store's answer is an error, in botocore's own form.
            HTTPClientError: There was no answer, or half of one.
        """
        return self._send("GET", f"?{urlencode(sorted(query.items()), quote_via=quote, safe='-._~')}")

    def _send(self, method: str, place: str, body: Body = b"", headers: Mapping[str, str] = EMPTY) -> Answer:
        try:
            return self._send_once(method, place, body, headers)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if isinstance(self._credentials, Credentials) or not self._credentials.renewed_after(status):
                raise
        return self._send_once(method, place, body, headers)  # what was refused has changed nothing

    def _send_once(self, method: str, place: str, body: Body, headers: Mapping[str, str]) -> Answer:
        head = self._head(method, self._folder + place, body, headers)
        try:
            connection = self._connection()
            try:
                answer, said = _exchange(connection, method, head, body)
            except BaseException:
                connection.close()
                raise
        except (OSError, HTTPException) as error:
            raise HTTPClientError(error=error) from error
        if answer.will_close or len(self._idle) >= IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)
        if answer.status != OK:
            raise ClientError(_error(answer.status, said), OPERATIONS[method])
        return Answer(answer.headers, said)

    def _head(self, method: str, url: str, body: Body, headers: Mapping[str, str]) -> bytes:
        """The signed request, up to its body."""
        request = AWSRequest(method, url, headers=dict(headers))
        request.context["payload"] = hashlib.sha256(body).hexdigest() if self._signs_body else UNSIGNED_PAYLOAD
        _Signer(signing_keys(self._credentials), "s3", self._region).add_auth(request)
        signed = {"Host": self._host, "Content-Length": str(len(body)), **request.headers}
        lines = (f"{name}: {value}" for name, value in signed.items())
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("ascii")

    def _connection(self) -> HTTPConnection:
        """An idle connection that the store has not closed meanwhile, or a new one."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.sock is not None and not wait_for_read(connection.sock, timeout=0):
                return connection
            connection.close()
        return self._connect()

    def _connect(self) -> HTTPConnection:
        place, connect_s = self._layout, self._kind.connect_s
        connection: HTTPConnection
        if self._tls:
            connection = HTTPSConnection(str(place.hostname), place.port, timeout=connect_s, context=self._tls)
        else:
            connection = HTTPConnection(str(place.hostname), place.port, timeout=connect_s)
        connection.connect()
        connection.sock.settimeout(self._kind.read_s)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection


class _Signer(S3SigV4Auth):
    """botocore's, which hashes no body itself: a request brings along what is said of its own."""

    def payload(self, request: AWSRequest) -> str:
        """What stands for the body in what is signed."""
        said: str = request.context["payload"]
        return said


def _close_all(connections: deque[HTTPConnection]) -> None:
    while connections:
        connections.pop().close()


def _trusting(certificates: str) -> ssl.SSLContext:
    """A context that trusts what is in a file or a folder."""
    folder = Path(certificates).is_dir()
    return ssl.create_default_context(capath=certificates if folder else None, cafile=None if folder else certificates)


def _exchange(connection: HTTPConnection, method: str, head: bytes, body: Body) -> tuple[HTTPResponse, bytes]:
    """Send a request, in one piece if it is small, and take its answer whole."""
    if len(body) <= PIECE:
        connection.send(b"".join((head, body)))
    else:
        connection.send(head)
        view = memoryview(body)
        for start in range(0, len(body), PIECE):
            connection.send(view[start : start + PIECE])
    answer = HTTPResponse(connection.sock, method=method)
    with answer:  # the socket stays open until both the connection and the answer are closed
        answer.begin()
        if answer.length is None and not answer.chunked:  # it would end wherever the connection does
            raise HTTPException("the answer does not say how long it is")
        if (answer.length or 0) > LONGEST[method]:
            raise HTTPException(f"the answer has {answer.length} bytes")
        return answer, answer.read()


def _incomplete(what: str) -> NoReturn:
    raise HTTPClientError(error=f"the answer has no {what}")


def _error(status: int, body: bytes) -> Any:
    """An error as botocore's parser would give it."""
    error = {"Code": str(status), "Message": ""}
    try:
        found = ET.fromstring(body)  # noqa: S314 - from the store that we sign for; nothing is expanded
        error.update({name: found.findtext(name) or error[name] for name in error})
    except ET.ParseError:
        pass
    return {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
