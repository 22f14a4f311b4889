"""S3 calls signed by botocore's signer and sent over plain connections, without a boto3 client.

A record is put for every submitted job and at every heartbeat, and scanning all jobs lists and gets records by the
thousand. boto3's client spends most of its time on parsing and on work that is the same for every call
(benchmarks/submitting.py, benchmarks/listing.py; docs/adr/0009-small-puts-without-a-client.md). Packs are put this way
too, straight from the buffer that they were built in. Every request is sent once. Where a proxy is configured, and for
all other calls, the client is used.
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

from adapters.aws.clients import AnyCredentials, ClientKind, Credentials, ca_bundle, signing_credentials
from adapters.deadlines import WATCHDOG, TimeLimit
from lifecycle.ports.store import Body

IDLE_CONNECTIONS: Final = 64  # `submit` puts as many records at once
SEND_BYTES: Final = 1 << 20  # sent at once, so that the time-out applies to each and not to a whole pack
MAX_RESPONSE_BYTES: Final = {"PUT": 1 << 16, "GET": 1 << 28}  # anything longer is not a store's response
OPERATIONS: Final = {"PUT": "PutObject", "GET": "GetObject"}
OK: Final = 200
EMPTY: Final[Mapping[str, str]] = MappingProxyType({})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def is_proxied(endpoint: str) -> bool:
    """Return True if the environment configures a proxy for *endpoint*; `S3Http` does not support proxies."""
    return urlsplit(endpoint).scheme in get_environ_proxies(endpoint)


@frozen
class S3Response:
    """A successful response: all headers, and the whole body."""

    headers: Message
    body: bytes


class S3Http:
    """Calls to one bucket. Thread-safe.

    Args:
        endpoint: The store's endpoint, as for boto3.
        region: Part of the signature; only AWS checks it.
        credentials: A call that is refused is sent again if these have changed meanwhile.
        bucket: The bucket's name.
        kind: The time-outs, and whether to hash bodies for the signature; without TLS they are always hashed.
        certificates: Value of REQUESTS_CA_BUNDLE; see `clients.ca_bundle`.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        region: str,
        credentials: AnyCredentials,
        bucket: str,
        kind: ClientKind,
        certificates: str = "",
    ) -> None:
        self._bucket_url = f"{endpoint.rstrip('/')}/{bucket}/"
        self._endpoint = urlsplit(endpoint)
        # The signature covers the Host header, which omits a default port.
        self._host = self._endpoint.netloc.removesuffix(f":{DEFAULT_PORTS[self._endpoint.scheme]}")
        self._kind = kind
        self._credentials = credentials
        self._region = region
        self._signs_body = kind.signs_body or self._endpoint.scheme != "https"
        self._tls = _tls_context(ca_bundle(certificates)) if self._endpoint.scheme == "https" else None
        self._idle: deque[HTTPConnection] = deque()
        self.close = finalize(self, _close_all, self._idle)

    def put(self, key: str, body: Body, *, headers: Mapping[str, str] = EMPTY) -> str:
        """Put an object, sending it once.

        Args:
            key: ASCII.
            body: All of the object.
            headers: Further headers, such as `Content-MD5`, `If-Match` or `If-None-Match`.

        Returns:
            The ETag, quotes included.

        Raises:
            ClientError: The store answered with an error.
            HTTPClientError: There was no response, or an incomplete one; whether the object was written is unknown.
        """
        response = self._send("PUT", quote(key, safe="/-._~"), body, headers)
        return response.headers["ETag"] or _raise_incomplete("ETag")

    def get(self, key: str) -> S3Response:
        """Get a whole object; the headers include `ETag` and `Last-Modified`.

        Raises:
            ClientError: The store answered with an error.
            HTTPClientError: There was no response, or an incomplete one.
        """
        response = self._send("GET", quote(key, safe="/-._~"))
        for name in ("ETag", "Last-Modified"):
            if not response.headers[name]:
                _raise_incomplete(name)
        return response

    def query(self, **parameters: str) -> S3Response:
        """Query the bucket itself, for example to list it.

        Raises:
            ClientError: The store answered with an error.
            HTTPClientError: There was no response, or an incomplete one.
        """
        return self._send("GET", f"?{urlencode(sorted(parameters.items()), quote_via=quote, safe='-._~')}")

    def _send(self, method: str, path: str, body: Body = b"", headers: Mapping[str, str] = EMPTY) -> S3Response:
        try:
            return self._send_once(method, path, body, headers)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if isinstance(self._credentials, Credentials) or not self._credentials.refreshed_after(status):
                raise
        return self._send_once(method, path, body, headers)  # safe, because a refused call changes nothing

    def _send_once(self, method: str, path: str, body: Body, headers: Mapping[str, str]) -> S3Response:
        head = self._signed_head(method, self._bucket_url + path, body, headers)
        try:
            connection = self._connection()
            try:
                limit = self._kind.limit
                with WATCHDOG.within(connection, limit.for_bytes(len(body))):
                    response, content = _exchange(connection, method, head, body, limit)
            except BaseException:
                connection.close()
                raise
        except (OSError, HTTPException) as error:
            raise HTTPClientError(error=error) from error
        if response.will_close or len(self._idle) >= IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)
        if response.status != OK:
            raise ClientError(_error_response(response.status, content), OPERATIONS[method])
        return S3Response(response.headers, content)

    def _signed_head(self, method: str, url: str, body: Body, headers: Mapping[str, str]) -> bytes:
        """Return the signed request line and headers."""
        request = AWSRequest(method, url, headers=dict(headers))
        request.context["payload"] = hashlib.sha256(body).hexdigest() if self._signs_body else UNSIGNED_PAYLOAD
        _Signer(signing_credentials(self._credentials), "s3", self._region).add_auth(request)
        signed = {"Host": self._host, "Content-Length": str(len(body)), **request.headers}
        lines = (f"{name}: {value}" for name, value in signed.items())
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("ascii")

    def _connection(self) -> HTTPConnection:
        """Return an idle connection that the store has not closed, or a new one."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            # An idle connection that is readable has been closed by the other side.
            if connection.sock is not None and not wait_for_read(connection.sock, timeout=0):
                return connection
            connection.close()
        return self._connect()

    def _connect(self) -> HTTPConnection:
        host, port, connect_s = str(self._endpoint.hostname), self._endpoint.port, self._kind.connect_s
        connection: HTTPConnection
        if self._tls:
            connection = HTTPSConnection(host, port, timeout=connect_s, context=self._tls)
        else:
            connection = HTTPConnection(host, port, timeout=connect_s)
        connection.connect()
        connection.sock.settimeout(self._kind.read_s)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection


class _Signer(S3SigV4Auth):
    """botocore's signer, with the body's hash taken from the request instead of computed again."""

    def payload(self, request: AWSRequest) -> str:
        payload: str = request.context["payload"]
        return payload


def _close_all(connections: deque[HTTPConnection]) -> None:
    while connections:
        connections.pop().close()


def _tls_context(certificates: str) -> ssl.SSLContext:
    """Return a context that trusts the certificates in a file or a folder."""
    folder = Path(certificates).is_dir()
    return ssl.create_default_context(capath=certificates if folder else None, cafile=None if folder else certificates)


def _exchange(
    connection: HTTPConnection, method: str, head: bytes, body: Body, limit: TimeLimit
) -> tuple[HTTPResponse, bytes]:
    """Send a request, in one write if it is small, and read the whole response."""
    if len(body) <= SEND_BYTES:
        connection.send(b"".join((head, body)))
    else:
        connection.send(head)
        view = memoryview(body)
        for start in range(0, len(body), SEND_BYTES):
            connection.send(view[start : start + SEND_BYTES])
    response = HTTPResponse(connection.sock, method=method)
    with response:  # the socket stays open until both the connection and the response are closed
        response.begin()
        if response.length is None and not response.chunked:  # it would end wherever the connection breaks
            raise HTTPException("the response has no length")
        if (response.length or 0) > MAX_RESPONSE_BYTES[method]:
            raise HTTPException(f"the response is too long: {response.length} bytes")
        WATCHDOG.extend(connection, limit.more_for(response.length or 0))
        return response, response.read()


def _raise_incomplete(header: str) -> NoReturn:
    raise HTTPClientError(error=f"the response has no {header}")


def _error_response(status: int, body: bytes) -> Any:
    """Return an error response in the form of botocore's parser."""
    error = {"Code": str(status), "Message": ""}
    try:
        root = ET.fromstring(body)  # noqa: S314 - from the store that we sign for; no entities are expanded
        error.update({name: root.findtext(name) or error[name] for name in error})
    except ET.ParseError:
        pass
    return {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
