"""boto3 as Holdfast uses it: client settings.

boto3's defaults have changed under its users three times: checksums (1.36) that R2 refuses, the retry mode (1.44), and
a transfer client (CRT) that ignores the endpoint. So every setting that matters is said here.

Retrying has one owner, `adapters.retrying`: *control* and *receive* clients send once. Only *bulk* transfers, whose
pieces are safe to repeat one by one, leave it to botocore.
"""

import os
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

from adapters.aws.error_mapping import S3, Service, translating
from lifecycle.errors import ConfigError, PermanentError

TRANSFER_THREADS: Final = 4  # more gain nothing on two cores, and starve a workload beside them
CALL_THREADS: Final = 8  # that send small calls through one client at once

_MAKING: Final = RLock()  # a boto3 session is not for several threads at once
_REGION: Final = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d{1,2}")
_DEFAULT_REGION: Final = "us-east-1"  # for an emulator's queue; any name is signed and none is checked


@frozen(kw_only=True)
class ClientKind:
    """What a client is for.

    Attributes:
        connect_s: Seconds to wait for a connection.
        read_s: Seconds to wait for bytes of an answer.
        attempts: How often botocore sends a request, in all.
        pool: Connections kept, at least the threads that share the client and two.
        signs_body: Whether bodies are hashed for the signature; over HTTPS it may be left out.
    """

    connect_s: float
    read_s: float
    attempts: int
    pool: int
    signs_body: bool = True


CONTROL: Final = ClientKind(connect_s=3, read_s=8, attempts=1, pool=CALL_THREADS + 2)
RECEIVE: Final = ClientKind(connect_s=3, read_s=30, attempts=1, pool=3)  # a long poll is silent for 20 s
BULK: Final = ClientKind(connect_s=5, read_s=60, attempts=3, pool=TRANSFER_THREADS + CALL_THREADS + 2, signs_body=False)


@frozen(kw_only=True)
class Credentials:
    """A key pair, and the token of a short-lived one."""

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class Renewable(Protocol):
    """Keys that change; botocore's own form, and more. Thread-safe."""

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Those to sign a call with; raises `ConfigError` if there are none."""

    def renewed_after(self, status: int) -> bool:
        """Whether there are other keys now than this thread got last, and sent a call with that got *status*."""


Keys = Credentials | Renewable


def queue_place(url: str) -> tuple[str, str]:
    """The endpoint and the region of a queue's URL; an emulator's has no region, and gets one.

    Raises:
        ConfigError: It is no queue's URL.
    """
    endpoint = _endpoint(url, "QUEUE_URL")
    parts = urlsplit(url)
    if not parts.path.strip("/"):
        raise ConfigError(
            f"QUEUE_URL {url!r} names no queue; it looks like https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
        )
    labels = (parts.hostname or "").split(".")
    return endpoint, next((label for label in labels if _REGION.fullmatch(label)), _DEFAULT_REGION)


def store_place(url: str, bucket: str) -> str:
    """The endpoint for a store's URL, which may have a path, but not the bucket's.

    Raises:
        ConfigError: It is no URL, or names the bucket.
    """
    if not bucket or "/" in bucket:
        raise ConfigError(f"BUCKET {bucket!r} is not a bucket's name")
    endpoint = _endpoint(url, "CLOUDFLARE_URL")
    path = urlsplit(url).path.rstrip("/")
    if path == f"/{bucket}":
        raise ConfigError(f"CLOUDFLARE_URL {url!r} ends with the bucket; leave that to BUCKET")
    return f"{endpoint}{path}"


def make_client(service: Service, kind: ClientKind, *, endpoint: str, region: str, credentials: Keys) -> Any:
    """Make a client, which any threads may share; sends nothing.

    Raises:
        ConfigError: A setting cannot be used.
    """
    check_keys(service, credentials)
    try:
        with _MAKING, translating(f"make a client for {endpoint}", service):
            session, keys = _signing_with(credentials)
            client = session.client(
                service.name,
                endpoint_url=endpoint,
                region_name=region,
                **keys,
                config=_config(service, kind, secure=endpoint.startswith("https:")),
            )
    except (ValueError, PermanentError) as error:
        raise ConfigError(f"no client for {endpoint} in region {region!r}: {error}; check {service.place}") from error
    if not isinstance(credentials, Credentials):
        client.meta.events.register_first("needs-retry", partial(_again_if_renewed, credentials))
    if service is S3:
        # Cloudflare sends no "100 Continue", and botocore waits a second for it on every upload of a file.
        client.meta.events.unregister("before-call.s3", add_expect_header)
    return client


def lazy_client(service: Service, kind: ClientKind, *, credentials: Keys, **place: str) -> Any:
    """`make_client`, put off to the first use: a client takes 50 to 100 ms, and many a command needs one of four.

    Raises:
        ConfigError: A key cannot be one. What else is wrong with a setting is raised at the first use.
    """
    check_keys(service, credentials)
    return _Lazy(partial(make_client, service, kind, credentials=credentials, **place))


class _Lazy:
    """Stands for what *make* makes."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            with _MAKING:
                self._made = self._made or self._make()
        return getattr(self._made, name)


def signing_keys(credentials: Keys) -> ReadOnlyCredentials:
    """Those to sign one call with, in botocore's form.

    Raises:
        ConfigError: They are to be read, and cannot be.
    """
    if isinstance(credentials, Credentials):
        return ReadOnlyCredentials(credentials.key_id, credentials.secret, credentials.token)
    return credentials.get_frozen_credentials()


def check_keys(service: Service, credentials: Keys) -> None:
    """Find what a slip of the pen does to a key, before it is sent.

    Raises:
        ConfigError: One cannot be a key.
    """
    if not isinstance(credentials, Credentials):
        return  # checked whenever they are read
    for value in (credentials.key_id, credentials.secret, credentials.token or "-"):
        if not (value.isascii() and value.isprintable()) or not value or " " in value:
            raise ConfigError(f"a key is empty, or has a blank or a strange character in it; check {service.keys}")


def certificates() -> str:
    """The file or folder of those certificates that boto3 trusts here."""
    own = _session()._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")  # noqa: SLF001
    return str(own or get_cert_path(True))


@frozen
class _Provider:
    """Where a session of botocore finds its keys."""

    keys: Renewable

    def load_credentials(self) -> Renewable:
        """As botocore asks for them."""
        return self.keys


def _signing_with(credentials: Keys) -> tuple[Any, dict[str, str | None]]:
    """A session, and what else a client needs to sign with *credentials*."""
    if isinstance(credentials, Credentials):
        return _session(), {
            "aws_access_key_id": credentials.key_id,
            "aws_secret_access_key": credentials.secret,
            "aws_session_token": credentials.token,
        }
    own = BotocoreSession()
    own.register_component("data_loader", _session()._session.get_component("data_loader"))  # noqa: SLF001
    own.register_component("credential_provider", _Provider(credentials))
    return boto3.Session(botocore_session=own), {}


def _again_if_renewed(credentials: Renewable, *, attempts: int, response: Any, **_: Any) -> float | None:
    """For botocore: send a call once more, at once, if it was refused and there are other keys by now."""
    if attempts > 1 or response is None:
        return None
    return 0.0 if credentials.renewed_after(response[0].status_code) else None


@cache
def _session() -> Any:
    return boto3.Session()  # loading the models takes 50 ms, so once


def _config(service: Service, kind: ClientKind, *, secure: bool) -> Config:
    config = Config(
        connect_timeout=kind.connect_s,
        read_timeout=kind.read_s,
        retries={"mode": "standard", "total_max_attempts": kind.attempts},
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
    """Scheme, host and port of *url*."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise ConfigError(f"{setting} {url!r} is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or url != "".join(url.split()):
        raise ConfigError(f"{setting} {url!r} is not a URL that starts with https:// or http:// and a host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"
