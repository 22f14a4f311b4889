"""boto3 clients configured for SQS and R2, with every setting that matters given explicitly.

boto3's defaults have changed three times: 1.36 added checksums that R2 refuses
(https://developers.cloudflare.com/r2/examples/aws/boto3/), 1.44 changed the retry mode, and the CRT transfer client
ignores the endpoint.

`adapters.retrier` decides what is retried: every client sends each request once.
"""

import re
from collections.abc import Callable
from functools import cache, partial
from threading import RLock
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import boto3
from attrs import field, frozen
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.handlers import add_expect_header
from botocore.httpsession import get_cert_path
from botocore.session import Session as BotocoreSession

from adapters.aws.error_mapping import S3, Service, mapped_errors
from adapters.aws.limited_pools import limit_calls
from adapters.deadlines import TimeLimit
from lifecycle.errors import ConfigError, PermanentError

TRANSFER_THREADS: Final = 4  # more gain nothing on two cores and take CPU time from the workload
CALL_THREADS: Final = 8  # threads that send small requests through one client

_CREATION_LOCK: Final = RLock()  # a boto3 session is not thread-safe
_REGION: Final = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d{1,2}")
_AWS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_DEFAULT_REGION: Final = "us-east-1"  # for an emulator's queue: the signature needs a region, and none is checked


SHORT: Final = TimeLimit(total_s=10, least_rate=64 << 10)  # a heartbeat makes several calls within a lease
POLL: Final = TimeLimit(total_s=40, least_rate=64 << 10)
TRANSFER: Final = TimeLimit(total_s=90, least_rate=8 << 10)  # of several at a time, over a slow line


@frozen(kw_only=True)
class ClientKind:
    """Limits of a client, by its use.

    Attributes:
        connect_s: Seconds to wait for a connection.
        read_s: Seconds to wait for the next bytes of a response.
        pool: Connections kept: one for each thread that shares the client, and two spare.
        limit: Total deadline of each request.
        signs_body: Hash bodies for the signature; over HTTPS this may be omitted.
    """

    connect_s: float
    read_s: float
    pool: int
    limit: TimeLimit = SHORT
    signs_body: bool = True


CONTROL: Final = ClientKind(connect_s=3, read_s=8, pool=CALL_THREADS + 2)
RECEIVE: Final = ClientKind(connect_s=3, read_s=30, pool=3, limit=POLL)  # a long poll is silent for 20 s
BULK: Final = ClientKind(
    connect_s=5, read_s=60, pool=TRANSFER_THREADS + CALL_THREADS + 2, limit=TRANSFER, signs_body=False
)


@frozen(kw_only=True)
class Credentials:
    """A key pair and, if it is short-lived, its session token."""

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class CredentialProvider(Protocol):
    """A source of credentials that change: botocore's interface and one method more. Thread-safe."""

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return credentials to sign a call with.

        Raises:
            ConfigError: There are none.
        """

    def refreshed_after(self, status: int) -> bool:
        """Return True if a call that this thread signed, and that got HTTP *status*, is worth repeating at once.

        That is so if the call was refused and newer credentials than those last given to this thread exist now.
        """


AnyCredentials = Credentials | CredentialProvider


def queue_endpoint(url: str, region: str = "") -> tuple[str, str]:
    """Return the endpoint and the region of a queue.

    A host name of AWS says which region its queues are in, and no other can be right. For any other host it is
    *region*, if given, or what looks like one in the name, or a default.

    Args:
        url: The queue's URL.
        region: The value of AWS_REGION or AWS_DEFAULT_REGION; empty if neither is set.

    Raises:
        ConfigError: The URL is not that of a queue.
    """
    endpoint = _endpoint(url, "QUEUE_URL")
    parts = urlsplit(url)
    if not parts.path.strip("/"):
        raise ConfigError(
            f"QUEUE_URL {url!r} names no queue; it looks like https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
        )
    host = parts.hostname or ""
    named = next((label for label in host.split(".") if _REGION.fullmatch(label)), "")
    return endpoint, (named if host.endswith(_AWS) else region or named) or region or _DEFAULT_REGION


def store_endpoint(url: str, bucket: str) -> str:
    """Return the endpoint for a store's URL, which may have a path but must not end with the bucket.

    Raises:
        ConfigError: The URL is invalid or names the bucket, or the bucket's name is invalid.
    """
    if not bucket or "/" in bucket:
        raise ConfigError(f"BUCKET {bucket!r} is not a valid bucket name")
    endpoint = _endpoint(url, "CLOUDFLARE_URL")
    path = urlsplit(url).path.rstrip("/")
    if path == f"/{bucket}":
        raise ConfigError(f"CLOUDFLARE_URL {url!r} ends with the bucket: remove it; BUCKET names the bucket")
    return f"{endpoint}{path}"


def make_client(service: Service, kind: ClientKind, *, endpoint: str, region: str, credentials: AnyCredentials) -> Any:
    """Create a thread-safe client; nothing is sent.

    Raises:
        ConfigError: A setting is invalid.
    """
    check_credentials(service, credentials)
    try:
        with _CREATION_LOCK, mapped_errors(f"create a client for {endpoint}", service):
            session, keys = _session_for(credentials)
            client = session.client(
                service.name,
                endpoint_url=endpoint,
                region_name=region,
                **keys,
                config=_config(service, kind, secure=endpoint.startswith("https:")),
            )
            limit_calls(client, kind.limit)
    except (ValueError, PermanentError) as error:
        raise ConfigError(
            f"cannot create a client for {endpoint} in region {region!r}: {error}; check {service.location_settings}"
        ) from error
    if not isinstance(credentials, Credentials):
        client.meta.events.register_first("needs-retry", partial(_retry_if_refreshed, credentials))
    if service is S3:
        # botocore asks for "100 Continue" and waits a second for it; Cloudflare does not send it.
        client.meta.events.unregister("before-call.s3", add_expect_header)
    return client


def lazy_client(service: Service, kind: ClientKind, *, credentials: AnyCredentials, **location: str) -> Any:
    """Return a client that `make_client` creates at its first use: that takes 50-100 ms, and many commands need none.

    Raises:
        ConfigError: The credentials are malformed. Other invalid settings raise at the first use.
    """
    check_credentials(service, credentials)
    return _LazyClient(partial(make_client, service, kind, credentials=credentials, **location))


class _LazyClient:
    """A stand-in for the client that *make* creates."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._client: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._client is None:
            with _CREATION_LOCK:
                self._client = self._client or self._make()
        return getattr(self._client, name)


def signing_credentials(credentials: AnyCredentials) -> ReadOnlyCredentials:
    """Return the credentials to sign one call with, in botocore's form.

    Raises:
        ConfigError: They have to be read first, and reading them failed.
    """
    if isinstance(credentials, Credentials):
        return ReadOnlyCredentials(credentials.key_id, credentials.secret, credentials.token)
    return credentials.get_frozen_credentials()


def check_credentials(service: Service, credentials: AnyCredentials) -> None:
    """Reject keys that are empty or were pasted with stray characters, before they are sent.

    Raises:
        ConfigError: A key is malformed; the message does not show it.
    """
    if not isinstance(credentials, Credentials):
        return  # checked whenever they are read
    for value in (credentials.key_id, credentials.secret, credentials.token or "-"):
        if not (value.isascii() and value.isprintable()) or not value or " " in value:
            raise ConfigError(
                f"a key is empty, or contains a space or an invalid character; check {service.credential_settings}"
            )


def ca_bundle(fallback: str = "") -> str:
    """Return the file or folder of the CA certificates that boto3 trusts on this machine.

    Args:
        fallback: Value of REQUESTS_CA_BUNDLE; boto3 uses it if AWS_CA_BUNDLE and its configuration name none.
    """
    configured = _session()._session.get_config_variable("ca_bundle")  # noqa: SLF001 - boto3 has no public way
    return str(configured or fallback or get_cert_path(True))


@frozen
class _BotocoreProvider:
    """The credential provider of a botocore session, in the form that botocore asks for."""

    credentials: CredentialProvider

    def load_credentials(self) -> CredentialProvider:
        return self.credentials


def _session_for(credentials: AnyCredentials) -> tuple[Any, dict[str, str | None]]:
    """Return a session, and the arguments that make its clients sign with *credentials*."""
    if isinstance(credentials, Credentials):
        return _session(), {
            "aws_access_key_id": credentials.key_id,
            "aws_secret_access_key": credentials.secret,
            "aws_session_token": credentials.token,
        }
    session = BotocoreSession()
    session.register_component("data_loader", _session()._session.get_component("data_loader"))  # noqa: SLF001
    session.register_component("credential_provider", _BotocoreProvider(credentials))
    return boto3.Session(botocore_session=session), {}


def _retry_if_refreshed(credentials: CredentialProvider, *, attempts: int, response: Any, **_: Any) -> float | None:
    """Tell botocore to repeat a refused call once, at once, if there are newer credentials by now."""
    if attempts > 1 or response is None:
        return None
    return 0.0 if credentials.refreshed_after(response[0].status_code) else None


@cache
def _session() -> Any:
    return boto3.Session()  # shared, because loading the service models takes 50 ms


def _config(service: Service, kind: ClientKind, *, secure: bool) -> Config:
    config = Config(
        connect_timeout=kind.connect_s,
        read_timeout=kind.read_s,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=kind.pool,
        tcp_keepalive=True,
    )
    if service is not S3:
        return config
    return config.merge(
        Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path", "payload_signing_enabled": kind.signs_body or not secure},
        )
    )


def _endpoint(url: str, setting: str) -> str:
    """Return the scheme, host and port of *url*."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise ConfigError(f"{setting} {url!r} is not a valid URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or url != "".join(url.split()):
        raise ConfigError(f"{setting} {url!r} is not a valid URL: it must start with https:// or http:// and a host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"
