"""One small PUT, signed by botocore's own signer and sent over a plain connection, without boto3's client around them.

A record is put for every job that is submitted, and at every heartbeat. boto3's client spends most of its time on what
never changes from one call to the next (benchmarks/submitting.py). Only this one call is made so: it is sent once, as
one piece, and needs no parsing but of errors. Where a proxy stands between, the client is used, as for all the rest.
"""

import socket
import ssl
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlsplit
from weakref import finalize

from botocore import credentials as botocore_credentials
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from botocore.utils import get_environ_proxies
from urllib3.util import wait_for_read

from adapters.boto import Credentials, Kind, certificates

OPERATION: Final = "PutObject"
IDLE_CONNECTIONS: Final = 64  # `submit` puts as many records at once
LONGEST_ANSWER: Final = 1 << 16  # bytes; a proxy's page is no answer
OK: Final = 200
PORTS: Final = {"http": 80, "https": 443}


def is_plain_way(endpoint: str) -> bool:
    """Whether no proxy stands between us and *endpoint*; a `DirectPut` knows nothing of those."""
    return urlsplit(endpoint).scheme not in get_environ_proxies(endpoint)


class DirectPut:
    """Puts small objects into one bucket; thread-safe.

    Args:
        endpoint: The store's, as boto3 takes it.
        region: Signed, and checked by nobody but AWS.
        credentials: Whose.
        bucket: Where to.
        kind: For the time-outs.
    """

    def __init__(self, *, endpoint: str, region: str, credentials: Credentials, bucket: str, kind: Kind) -> None:
        self._folder = f"{endpoint.rstrip('/')}/{bucket}/"
        self._place = urlsplit(endpoint)
        self._host = self._place.netloc.removesuffix(f":{PORTS[self._place.scheme]}")  # as it is signed
        self._kind = kind
        keys = botocore_credentials.Credentials(credentials.key_id, credentials.secret, credentials.token)
        self._signer = S3SigV4Auth(keys, "s3", region)
        self._context = {"client_config": Config(s3={"payload_signing_enabled": True})}
        self._tls = _trusting(certificates()) if self._place.scheme == "https" else None
        self._idle: deque[HTTPConnection] = deque()
        self.close = finalize(self, _close_all, self._idle)

    def put(self, key: str, body: bytes, *, headers: Mapping[str, str]) -> str:
        """Send it, once, with its SHA-256.

        Args:
            key: ASCII.
            body: All of it.
            headers: `Content-MD5`, and a condition: `If-Match` or `If-None-Match`.

        Returns:
            The ETag, quotes included.

        Raises:
            ClientError: The store's answer is an error, in botocore's own form.
            HTTPClientError: There was no answer, or half of one: whether it landed is not known.
        """
        head = self._head(key, body, headers)
        try:
            connection = self._connection()
            try:
                answer, said = _exchange(connection, head + body)
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
            raise ClientError(_error(answer.status, said), OPERATION)
        return answer.headers["ETag"] or _no_version()

    def _head(self, key: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The signed request, up to its body."""
        url = self._folder + quote(key, safe="/-._~")
        request = AWSRequest("PUT", url, headers=dict(headers), data=body)
        request.context.update(self._context)
        self._signer.add_auth(request)
        signed = {"Host": self._host, "Content-Length": str(len(body)), **request.headers}
        lines = (f"{name}: {value}" for name, value in signed.items())
        return "\r\n".join([f"PUT {urlsplit(url).path} HTTP/1.1", *lines, "", ""]).encode("ascii")

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
        place, connect_s = self._place, self._kind.connect_s
        connection: HTTPConnection
        if self._tls:
            connection = HTTPSConnection(str(place.hostname), place.port, timeout=connect_s, context=self._tls)
        else:
            connection = HTTPConnection(str(place.hostname), place.port, timeout=connect_s)
        connection.connect()
        connection.sock.settimeout(self._kind.read_s)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection


def _close_all(connections: deque[HTTPConnection]) -> None:
    while connections:
        connections.pop().close()


def _trusting(certificates: str) -> ssl.SSLContext:
    """A context that trusts what is in a file or a folder."""
    folder = Path(certificates).is_dir()
    return ssl.create_default_context(capath=certificates if folder else None, cafile=None if folder else certificates)


def _exchange(connection: HTTPConnection, request: bytes) -> tuple[HTTPResponse, bytes]:
    """Send *request* in one piece, and take its answer whole."""
    connection.send(request)
    answer = HTTPResponse(connection.sock, method="PUT")
    answer.begin()
    said = answer.read(LONGEST_ANSWER)
    if not answer.isclosed() and answer.read(1):
        raise HTTPException("the answer has no end")
    return answer, said


def _no_version() -> NoReturn:
    raise HTTPClientError(error="the answer has no ETag")


def _error(status: int, body: bytes) -> Any:
    """An error as botocore's parser would give it."""
    error = {"Code": str(status), "Message": ""}
    try:
        found = ET.fromstring(body)  # noqa: S314 - from the store that we sign for; nothing is expanded
        error.update({name: found.findtext(name) or error[name] for name in error})
    except ET.ParseError:
        pass
    return {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
