"""One small PUT, sent with botocore's own signer and connections, but without its client around them.

A record is put for every job that is submitted, and at every heartbeat. boto3's client spends most of its time on what
never changes from one call to the next; signing and sending take a part of that (benchmarks/submitting.py). Only this
one call is made so: it needs no parsing but of errors.
"""

import base64
import hashlib
import socket
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from botocore import credentials as botocore_credentials
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from adapters.boto import Credentials, Kind

OPERATION: Final = "PutObject"
CONNECTIONS: Final = 64  # `submit` puts as many records at once
LONGEST_ERROR: Final = 1 << 16  # bytes; a proxy's page is no answer
OK: Final = 200
SOCKET: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),  # head and body go out apart, and would wait 40 ms for each other
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]


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
        keys = botocore_credentials.Credentials(credentials.key_id, credentials.secret, credentials.token)
        self._signer = S3SigV4Auth(keys, "s3", region)
        self._context = {"client_config": Config(s3={"payload_signing_enabled": True})}
        self._session = URLLib3Session(
            proxies=get_environ_proxies(endpoint),
            timeout=(kind.connect_s, kind.read_s),  # type: ignore[arg-type] # the stubs know of one number only
            max_pool_connections=CONNECTIONS,
            socket_options=SOCKET,  # type: ignore[arg-type] # the same
        )

    def put(self, key: str, body: bytes, *, condition: Mapping[str, str]) -> str:
        """Send it, once, with its MD5 and its SHA-256.

        Args:
            key: ASCII.
            body: All of it.
            condition: Headers: `If-Match` or `If-None-Match`.

        Returns:
            The ETag, quotes included.

        Raises:
            ClientError: The store's answer is an error, in botocore's own form.
            BotoCoreError: There was no answer.
        """
        checksum = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        request = AWSRequest(
            method="PUT",
            url=self._folder + quote(key, safe="/-._~"),
            data=body,
            headers={"Content-MD5": checksum, **condition},
        )
        request.context.update(self._context)
        self._signer.add_auth(request)
        answer = self._session.send(request.prepare())
        if answer.status_code != OK:
            said: Any = _said(answer.status_code, answer.content)
            raise ClientError(said, OPERATION)
        return str(answer.headers["ETag"])

    def close(self) -> None:
        """Close its connections."""
        self._session.close()


def _said(status: int, body: bytes) -> dict[str, dict[str, object]]:
    """An error as botocore's parser would give it."""
    error = {"Code": str(status), "Message": ""}
    try:
        found = ET.fromstring(body[:LONGEST_ERROR])  # noqa: S314 - from the store that we sign for; nothing is expanded
        error.update({name: found.findtext(name) or error[name] for name in error})
    except ET.ParseError:
        pass
    return {"Error": dict(error), "ResponseMetadata": {"HTTPStatusCode": status}}
