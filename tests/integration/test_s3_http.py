"""Small puts without a boto3 client: connections, trust, and incomplete responses."""

import hashlib
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from botocore.exceptions import ClientError, HTTPClientError
from support.stub import DROP, Reply, Stub, s3_error
from urllib3.util import wait_for_read

from adapters.aws.clients import BULK, CONTROL, Credentials
from adapters.aws.s3_http import IDLE_CONNECTIONS, SEND_BYTES, S3Http, is_proxied
from adapters.aws.s3_listing import ListingRow, parse_page
from client.config.variables import host_variables, process_variables

KEYS = Credentials(key_id="a", secret="b")
STORED = Reply(200, headers={"ETag": '"v"'})
MakePut = Callable[[str], S3Http]


@pytest.fixture
def put_to() -> Iterator[MakePut]:
    """Return a function that creates an `S3Http` for an endpoint; it is closed after the test."""
    made: list[S3Http] = []

    def make(endpoint: str) -> S3Http:
        certificates = host_variables(process_variables()).ca_bundle
        made.append(
            S3Http(
                endpoint=endpoint,
                region="auto",
                credentials=KEYS,
                bucket="b",
                kind=CONTROL,
                certificates=certificates,
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_connections_are_reused(put_to: MakePut, stub: Stub) -> None:
    """Connections are reused, because a handshake for each record would double its time."""
    stub.script(STORED)
    put = put_to(stub.url)
    for _ in range(3):
        put.put("k", b"body", headers={})
    assert len(put._idle) == 1
    assert len({id(connection) for connection in put._idle}) == 1


def test_a_connection_that_the_store_closed_is_not_reused(put_to: MakePut, stub: Stub) -> None:
    """A connection that the store has closed is replaced before the put, which would otherwise seem lost."""
    put = put_to(stub.url)
    stub.script(Reply(200, b"", {"ETag": '"v"', "Content-Length": "0"}))  # the stub then closes, unannounced
    put.put("k", b"1", headers={})
    assert wait_for_read(put._idle[0].sock, timeout=10)
    put.put("k", b"2", headers={})
    assert [sent.body for sent in stub.requests] == [b"1", b"2"]


@pytest.mark.parametrize("answer", [DROP, Reply(200), Reply(200, b"x" * 70_000, {"ETag": '"v"'})])
def test_an_incomplete_response_leaves_the_outcome_unknown(put_to: MakePut, stub: Stub, answer: Reply) -> None:
    """Without a complete response the outcome is unknown; a success without an ETag is not complete."""
    stub.script(answer)
    with pytest.raises(HTTPClientError):
        put_to(stub.url).put("k", b"body", headers={})


def test_an_error_response_keeps_the_connection(put_to: MakePut, stub: Stub) -> None:
    """An error response is a ClientError as botocore raises it, and the connection is used again."""
    stub.script(s3_error(412, "PreconditionFailed"), STORED)
    put = put_to(stub.url)
    with pytest.raises(ClientError) as caught:
        put.put("k", b"body", headers={"If-None-Match": "*"})
    assert caught.value.response["Error"]["Code"] == "PreconditionFailed"
    assert put.put("k", b"body", headers={}) == '"v"'


def test_idle_connections_are_bounded(put_to: MakePut, stub: Stub) -> None:
    """The number of idle connections is bounded, however many threads made calls at once."""
    stub.script(STORED)
    put = put_to(stub.url)
    connections = [put._connect() for _ in range(IDLE_CONNECTIONS)]
    put._idle.extend(connections)
    put._idle.appendleft(put._connect())
    put.put("k", b"body", headers={})
    put.put("k", b"body", headers={})
    assert len(put._idle) <= IDLE_CONNECTIONS + 1
    put.close()
    assert not put._idle


@pytest.mark.parametrize("setting", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_the_authorities_that_boto3_trusts_are_trusted(
    put_to: MakePut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """Over HTTPS, exactly the certificate authorities that boto3 trusts are trusted."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    server = Stub(tls)
    server.script(STORED)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    try:
        with pytest.raises(HTTPClientError, match="CERTIFICATE_VERIFY_FAILED"):
            put_to(server.url).put("k", b"body", headers={})
        monkeypatch.setenv(setting, str(tmp_path / "ca.pem"))
        assert put_to(server.url).put("k", b"body", headers={}) == '"v"'
    finally:
        server.close()


@pytest.mark.parametrize("size", [0, 1, SEND_BYTES - 1, SEND_BYTES, SEND_BYTES + 1, 3 * SEND_BYTES - 1])
def test_a_large_body_is_sent_without_a_copy(stub: Stub, size: int) -> None:
    """A large body is sent in parts without a copy.

    Without TLS its hash is signed, or nothing would detect a change.
    """
    stub.script(STORED)
    body = bytearray(b"ab" * size)[:size]
    put = S3Http(endpoint=stub.url, region="auto", credentials=KEYS, bucket="b", kind=BULK)
    assert put.put("k", memoryview(body)) == '"v"'
    put.close()
    assert stub.requests[0].body == body
    assert stub.requests[0].headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()


def test_under_tls_a_large_body_is_not_hashed_for_the_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS protects a large body on its way, and the manifest's hashes do afterwards; a small one is always hashed."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    server = Stub(tls)
    server.script(STORED)
    body = bytes(2 * SEND_BYTES)
    try:
        for kind in (BULK, CONTROL):
            put = S3Http(endpoint=server.url, region="auto", credentials=KEYS, bucket="b", kind=kind)
            put.put("k", body)
            put.close()
        hashes = [sent.headers["x-amz-content-sha256"] for sent in server.requests]
        assert hashes == ["UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()]
        assert [sent.body for sent in server.requests] == [body, body]
    finally:
        server.close()


def test_a_configured_proxy_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configured proxy is detected, because `S3Http` does not support any."""
    for name in ("no_proxy", "NO_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert not is_proxied("https://store.invalid")
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    assert is_proxied("https://store.invalid")
    monkeypatch.setenv("no_proxy", "store.invalid")
    assert not is_proxied("https://store.invalid")


CUT = [
    pytest.param(Reply(200, b"whole", {"ETag": '"v"'}), id="no date"),
    pytest.param(Reply(200, b"whole", {"Last-Modified": "Tue, 01 Jan 2030 00:00:00 GMT"}), id="no version"),
    pytest.param(DROP, id="nothing"),
]


@pytest.mark.parametrize("answer", CUT)
def test_a_truncated_response_is_not_an_object(put_to: MakePut, stub: Stub, answer: Reply) -> None:
    """A connection that breaks among the headers, which looks like their end, gives no object."""
    stub.script(answer)
    with pytest.raises(HTTPClientError):
        put_to(stub.url).get("k")


PAGE = (
    "<?xml version='1.0'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
    "<IsTruncated>{more}</IsTruncated>{token}<Contents><Key>a%2Fb+c</Key><Size>7</Size><ETag>&quot;v&quot;</ETag>"
    "<LastModified>2030-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>"
)


def test_a_page_is_parsed() -> None:
    """A page is parsed with or without an XML namespace, and its keys are decoded."""
    written = datetime(2030, 1, 1, tzinfo=UTC)
    last = PAGE.format(more="false", token="")
    expected = ([ListingRow("a/b c", 7, '"v"', written)], None)
    assert parse_page(last.encode()) == expected
    assert parse_page(last.replace(" xmlns='http://s3.amazonaws.com/doc/2006-03-01/'", "").encode()) == expected
    token = "<NextContinuationToken>t</NextContinuationToken>"
    assert parse_page(PAGE.format(more="true", token=token).encode())[1] == "t"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<ListBucketResult></ListBucketResult>",
        PAGE.format(more="true", token="").encode(),
        PAGE.format(more="perhaps", token="").encode(),
        PAGE.format(more="false", token="").encode()[:-30],
        PAGE.format(more="false", token="").replace("<Size>7</Size>", "").encode(),
    ],
)
def test_a_truncated_page_is_an_error(body: bytes) -> None:
    """A truncated page is an error: the keys after it would seem absent."""
    with pytest.raises(HTTPClientError):
        parse_page(body)
