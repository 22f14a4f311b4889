"""Client settings: everything that matters is set explicitly, not left to boto3's defaults."""

import hashlib
import io
from typing import Any

import pytest
from boto3.s3 import transfer
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from urllib3 import HTTPResponse

from adapters.aws.clients import (
    BULK,
    CONTROL,
    RECEIVE,
    ClientKind,
    Credentials,
    make_client,
    queue_endpoint,
    store_endpoint,
)
from adapters.aws.error_mapping import S3, SQS, Service
from adapters.aws.store import TRANSFER
from lifecycle.errors import ConfigError


@pytest.mark.parametrize("service", [SQS, S3])
@pytest.mark.parametrize(("kind", "connect_s", "read_s"), [(CONTROL, 3, 8), (RECEIVE, 3, 30), (BULK, 5, 60)])
def test_limits_are_explicit(client: Any, service: Service, kind: ClientKind, connect_s: int, read_s: int) -> None:
    """Time limits never depend on boto3's defaults, which have changed; botocore never repeats a request."""
    config = client(service, kind).meta.config
    assert (config.connect_timeout, config.read_timeout) == (connect_s, read_s)
    assert config.retries == {"mode": "standard", "total_max_attempts": 1}
    assert config.max_pool_connections == kind.pool
    assert config.tcp_keepalive is True


@pytest.mark.parametrize("kind", [CONTROL, BULK])
def test_r2_gets_no_checksum_trailers(client: Any, kind: ClientKind) -> None:
    """Requests have no checksum trailers, which R2 refuses, and use path-style addresses."""
    config = client(S3, kind).meta.config
    assert config.request_checksum_calculation == "when_required"
    assert config.response_checksum_validation == "when_required"
    assert config.s3["addressing_style"] == "path"


@pytest.mark.parametrize(
    ("kind", "endpoint", "is_hashed"),
    [
        (BULK, "https://store.invalid", False),
        (BULK, "http://store.invalid", True),
        (CONTROL, "https://store.invalid", True),
    ],
)
def test_only_bulk_https_bodies_are_unsigned(client: Any, kind: ClientKind, endpoint: str, is_hashed: bool) -> None:  # noqa: FBT001 - a table
    """A body is left out of the signature only for bulk clients, and only if TLS protects it."""
    seen: list[Any] = []

    def answer(request: Any, **_: object) -> AWSResponse:
        seen.append(request.headers)
        return AWSResponse(request.url, 200, HTTPHeaders(), HTTPResponse(io.BytesIO(b"")))

    s3 = client(S3, kind, endpoint)
    s3.meta.events.register("before-send.s3.PutObject", answer)
    s3.put_object(Bucket="b", Key="k", Body=io.BytesIO(b"body"))
    (headers,) = seen
    sent = headers["X-Amz-Content-SHA256"].decode()
    assert sent == (hashlib.sha256(b"body").hexdigest() if is_hashed else "UNSIGNED-PAYLOAD")
    assert not {name.lower() for name in headers.keys()} & {"x-amz-trailer", "content-encoding", "expect"}  # noqa: SIM118 - no dict


def test_crt_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 never chooses the CRT client, which ignores the endpoint, even if awscrt is installed."""

    class EagerCrt:
        __version__ = "99.0.0"

        class s3:  # noqa: N801 - as awscrt has it
            @staticmethod
            def is_optimized_for_system() -> bool:
                return True

    monkeypatch.setattr(transfer, "HAS_CRT", True)
    monkeypatch.setattr(transfer, "awscrt", EagerCrt, raising=False)
    chooses_crt: Any = getattr(transfer, "_should_use_crt")  # noqa: B009 - private, and so not in the stubs
    assert chooses_crt(transfer.TransferConfig()) is True  # what would have happened
    assert chooses_crt(TRANSFER) is False


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/1/q", ("https://sqs.eu-central-1.amazonaws.com", "eu-central-1")),
        ("https://us-west-2.queue.amazonaws.com/1/q", ("https://us-west-2.queue.amazonaws.com", "us-west-2")),
        ("https://queue.amazonaws.com/1/q", ("https://queue.amazonaws.com", "us-east-1")),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", ("https://sqs.cn-north-1.amazonaws.com.cn", "cn-north-1")),
        (
            "https://vpce-0a-1b.sqs.us-gov-west-1.vpce.amazonaws.com/1/q.fifo",
            ("https://vpce-0a-1b.sqs.us-gov-west-1.vpce.amazonaws.com", "us-gov-west-1"),
        ),
        ("http://127.0.0.1:5000/123456789012/q", ("http://127.0.0.1:5000", "us-east-1")),
        (
            "http://sqs.eu-west-1.localhost.example:4566/0/q",
            ("http://sqs.eu-west-1.localhost.example:4566", "eu-west-1"),
        ),
        ("http://[::1]:9324/0/q", ("http://[::1]:9324", "us-east-1")),
    ],
)
def test_a_queue_url_gives_endpoint_and_region(url: str, place: tuple[str, str]) -> None:
    """Without a setting, region and endpoint come from the URL alone, so an emulator's URL works unchanged."""
    assert queue_endpoint(url) == place


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("http://127.0.0.1:5000/1/q", "eu-west-3"),
        ("https://queue.internal.example/1/q", "eu-west-3"),
        ("http://sqs.eu-west-1.localhost.example:4566/0/q", "eu-west-3"),
        ("https://sqs.us-east-2.amazonaws.com/1/q", "us-east-2"),
        ("https://vpce-0a-1b.sqs.us-gov-west-1.vpce.amazonaws.com/1/q", "us-gov-west-1"),
    ],
)
def test_a_region_from_the_environment_signs_for_urls_without_one(url: str, region: str) -> None:
    """AWS_REGION is the region of a queue whose host is not AWS's; AWS's own host names are never contradicted."""
    assert queue_endpoint(url, "eu-west-3")[1] == region


@pytest.mark.parametrize(
    "url",
    ["", "my-queue", "https://sqs.eu-west-1.amazonaws.com", "arn:aws:sqs:eu-west-1:1:q", "http://h:x/q", " http://h/q"],
)
def test_an_invalid_queue_url_is_a_config_error(url: str) -> None:
    """A URL that is not a queue's is a ConfigError, in one line that names the setting."""
    with pytest.raises(ConfigError, match=r"^QUEUE_URL .*") as caught:
        queue_endpoint(url)
    assert "\n" not in str(caught.value)


def test_a_store_url_may_have_a_path_but_no_bucket() -> None:
    """A store may be below a path; an endpoint that ends with the bucket is refused, since it would name it twice."""
    assert store_endpoint("https://acct.r2.cloudflarestorage.com/", "b") == "https://acct.r2.cloudflarestorage.com"
    assert store_endpoint("https://host/storage/s3", "b") == "https://host/storage/s3"
    with pytest.raises(ConfigError, match="CLOUDFLARE_URL"):
        store_endpoint("https://acct.r2.cloudflarestorage.com/b", "b")
    with pytest.raises(ConfigError, match="CLOUDFLARE_URL"):
        store_endpoint("acct.r2.cloudflarestorage.com", "b")
    with pytest.raises(ConfigError, match="BUCKET"):
        store_endpoint("https://host", "")


@pytest.mark.parametrize("secret", ["", "two words", "line\n", "ä"])
def test_a_malformed_key_is_a_config_error(secret: str) -> None:
    """A key that is empty or was pasted with a space is rejected before anything is sent, and is not shown."""
    credentials = Credentials(key_id="AKIATEST", secret=secret)
    with pytest.raises(ConfigError, match="AWS_ID and AWS_KEY") as caught:
        make_client(SQS, CONTROL, endpoint="https://host", region="us-east-1", credentials=credentials)
    assert not secret or secret not in str(caught.value)
    assert not secret or secret not in repr(credentials)


def test_a_malformed_region_is_a_config_error() -> None:
    """A value that boto3 rejects when it creates a client is a wrong setting."""
    with pytest.raises(ConfigError, match="CLOUDFLARE_URL"):
        make_client(
            S3,
            CONTROL,
            endpoint="https://host",
            region="no region",
            credentials=Credentials(key_id="AKIATEST", secret="not-a-secret"),
        )
