"""R2Store with a real server's responses, and with those that no emulator gives."""

import base64
import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from boto3.s3.transfer import TransferConfig
from support.stub import CUT_SHORT, DROP, Reply, Stub, s3_error

from adapters.aws import store as r2
from adapters.aws.clients import Credentials
from adapters.aws.store import R2Store
from adapters.memory.clock import ManualClock
from adapters.retrying import RetryingStore
from lifecycle.errors import ConfigError, PermanentError, RetryableError
from lifecycle.ports.store import ABSENT, Range

KEYS = Credentials(key_id="a", secret="b")
WRITTEN = "Tue, 01 Jan 2030 00:00:00 GMT"
NINETY_SECONDS_LATER = "Tue, 01 Jan 2030 00:01:30 GMT"
MakeStore = Callable[[], R2Store]


@pytest.fixture(params=["direct", "behind a proxy"])
def scripted(stub: Stub, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[R2Store]:
    """Return a store whose server follows a script, with and without `S3Http`."""
    monkeypatch.setattr(r2, "is_proxied", lambda _: request.param != "direct")
    store = r2.connect(
        endpoint=stub.url,
        region="auto",
        credentials=Credentials(key_id="a", secret="b", token="t"),
        bucket="b",
        clock=ManualClock(),
    )
    yield store
    store._control.close()
    store._bulk.close()


def object_reply(body: bytes = b"x", **headers: str) -> Reply:
    """Return the response with an object."""
    return Reply(200, body, {"ETag": '"v"', "Last-Modified": WRITTEN, **headers})


def page(*keys: str, following: str = "") -> Reply:
    """Return a page of a listing."""
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2030-01-01T00:00:00.000Z</LastModified><ETag>&quot;v&quot;</ETag>"
        "<Size>1</Size></Contents>"
        for key in keys
    )
    more = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
    body = (
        f"<ListBucketResult><IsTruncated>{str(bool(following)).lower()}</IsTruncated>{more}{entries}</ListBucketResult>"
    )
    return Reply(200, body.encode(), {"Content-Type": "application/xml", "Date": NINETY_SECONDS_LATER})


def test_age_is_by_the_clock_of_the_store(scripted: R2Store, stub: Stub) -> None:
    """An object's age is the response's date minus the object's date; no node's clock is involved."""
    stub.script(object_reply(Date=NINETY_SECONDS_LATER))
    stored = scripted.get("k")
    assert stored is not None
    assert stored.age_s == 90
    stub.script(page("a", "b"))
    assert [listed.age_s for listed in scripted.list("")] == [90, 90]


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}, {"Date": "Mon, 99 Foo 2030 00:00:00 GMT"}])
def test_age_is_unknown_without_the_clock_of_the_store(scripted: R2Store, stub: Stub, headers: dict[str, str]) -> None:
    """If a response has no date, or one that cannot be read, the age is unknown: our clock never stands in for it."""
    reply = object_reply()
    stub.script(evolve(reply, headers={**reply.headers, **headers}))
    stored = scripted.get("k")
    assert stored is not None
    assert stored.age_s is None
    stub.script(evolve(page("a", "b"), headers={"Content-Type": "application/xml", **headers}))
    assert [listed.age_s for listed in scripted.list("")] == [None, None]


@pytest.mark.parametrize(
    "call",
    [
        lambda store, path: store.get("k"),
        lambda store, path: list(store.list("k")),
        lambda store, path: store.put("k", b"body", expected=ABSENT),
        lambda store, path: store.put_file("k", path),
        lambda store, path: store.put("k", bytes(2 << 20)),
        lambda store, path: store.get_range(Range("k", 0, 5)),
        lambda store, path: store.assemble("k", [Range("l", 0, 5)]),
    ],
    ids=["get", "list", "put", "put_file", "put_large", "get_range", "assemble"],
)
def test_a_response_with_truncated_headers_is_an_error(
    scripted: R2Store, stub: Stub, tmp_path: Path, call: Callable[[R2Store, Path], object]
) -> None:
    """Headers that break off are an error. http.client reports status 200 without headers, which is not an absence."""
    (tmp_path / "f").write_bytes(b"12345")
    stub.script(CUT_SHORT)
    with pytest.raises(RetryableError):
        call(scripted, tmp_path / "f")


@pytest.mark.parametrize("status", [400, 404])
def test_a_refusal_without_an_error_code_is_retryable(scripted: R2Store, stub: Stub, status: int) -> None:
    """A 404 without an error code proves nothing: it may be truncated, or a proxy's."""
    stub.script(Reply(status))
    with pytest.raises(RetryableError):
        scripted.get("k")


STARTED = Reply(200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
COPIED = Reply(200, b"<CopyPartResult><ETag>&quot;p&quot;</ETag></CopyPartResult>")
WHOLE = Reply(200, b"<CompleteMultipartUploadResult><ETag>&quot;w&quot;</ETag></CompleteMultipartUploadResult>")
PART = 5 << 20


def test_an_object_is_assembled_from_parts(scripted: R2Store, stub: Stub) -> None:
    """Parts are copied within the store or sent from here, and listed in their order at the end."""
    stub.script(STARTED, COPIED, Reply(200, headers={"ETag": '"q"'}), WHOLE)
    assert scripted.assemble("k", [Range("p", 7, PART), lambda: b"tail"])
    started, copied, sent, ended = stub.requests
    assert (started.method, ended.method) == ("POST", "POST")
    assert copied.headers["x-amz-copy-source"] == "b/p"
    assert copied.headers["x-amz-copy-source-range"] == f"bytes=7-{7 + PART - 1}"
    assert sent.body == b"tail"
    assert ended.body.index(b'"p"') < ended.body.index(b'"q"')


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ((STARTED, COPIED, Reply(200), Reply(204)), RetryableError),  # status 200 without an ETag confirms nothing
        ((STARTED, Reply(200), Reply(204)), RetryableError),
        ((STARTED, s3_error(403, "AccessDenied"), Reply(204)), ConfigError),
        ((STARTED, s3_error(404, "NoSuchKey"), s3_error(404, "NoSuchKey"), Reply(204)), None),
    ],
)
def test_an_assembled_object_needs_a_confirmed_end(
    scripted: R2Store, stub: Stub, replies: tuple[Reply, ...], error: type[Exception] | None
) -> None:
    """Status 200 does not prove a copy or a completion; without the ETag, the upload is aborted."""
    stub.script(*replies)
    if error is None:
        assert scripted.assemble("k", [Range("p", 0, PART)]) is False
    else:
        with pytest.raises(error):
            scripted.assemble("k", [Range("p", 0, PART)])
    assert stub.requests[-1].method == "DELETE"


def test_a_small_put_carries_checksums(scripted: R2Store, stub: Stub) -> None:
    """A small object carries its MD5 and a signed SHA-256 in plain headers, and does not wait for 100 Continue."""
    stub.script(Reply(200, headers={"ETag": '"v2"'}))
    assert scripted.put("k", b"body", expected='"v1"') == '"v2"'
    scripted.put("k", b"body", expected=ABSENT)
    scripted.put("k", b"body")
    conditions = [(sent.headers.get("if-match"), sent.headers.get("if-none-match")) for sent in stub.requests]
    assert conditions == [('"v1"', None), (None, "*"), (None, None)]
    for sent in stub.requests:
        assert base64.b64decode(sent.headers["content-md5"]) == hashlib.md5(b"body", usedforsecurity=False).digest()
        assert sent.headers["x-amz-content-sha256"] == hashlib.sha256(b"body").hexdigest()
        assert sent.headers["x-amz-security-token"] == "t"
        assert sent.path == "/b/k"
        assert not sent.headers.keys() & {"expect", "x-amz-trailer", "content-encoding", "x-amz-sdk-checksum-algorithm"}


def test_a_file_is_uploaded_without_expect_or_trailer(scripted: R2Store, stub: Stub, tmp_path: Path) -> None:
    """The upload of a file neither waits for "100 Continue" nor sends the trailer that R2 refuses."""
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    stub.script(Reply(200, headers={"ETag": '"v"'}), Reply(200, headers={"Content-Length": "5"}))
    scripted.put_file("k", path)
    sent = stub.requests[0]
    assert (sent.method, sent.body) == ("PUT", b"12345")
    assert not sent.headers.keys() & {"expect", "x-amz-trailer", "content-encoding"}


def test_a_large_body_is_sent_in_one_put(scripted: R2Store, stub: Stub) -> None:
    """A large body is sent in one put, without Content-MD5, and again after a retryable error."""
    stub.script(s3_error(503, "SlowDown"), Reply(200, headers={"ETag": '"v"'}))
    body = memoryview(bytearray(random.randbytes(3 << 20)))[: 5 << 19]
    assert RetryingStore(scripted, ManualClock()).put("k", body) == '"v"'
    assert [sent.body for sent in stub.requests] == [bytes(body)] * 2
    assert not stub.requests[0].headers.keys() & {"expect", "x-amz-trailer", "content-encoding", "content-md5"}


@pytest.mark.parametrize("there", [Reply(200, headers={"Content-Length": "4"}), Reply(404)])
def test_the_size_of_an_uploaded_file_is_checked(scripted: R2Store, stub: Stub, tmp_path: Path, there: Reply) -> None:
    """An upload succeeds only if the store has as many bytes as the file."""
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    stub.script(Reply(200, headers={"ETag": '"v"'}), there)
    with pytest.raises(RetryableError, match="5 bytes"):
        scripted.put_file("k", path)


@pytest.mark.parametrize(
    ("reply", "error"), [(s3_error(404, "NoSuchBucket"), ConfigError), (s3_error(403, "AccessDenied"), ConfigError)]
)
def test_a_refused_upload_names_the_setting(
    scripted: R2Store, stub: Stub, tmp_path: Path, reply: Reply, error: type[Exception]
) -> None:
    """The error of a refused upload is mapped from the cause that boto3 wraps, and names the setting."""
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    stub.script(reply)
    with pytest.raises(error, match="BUCKET"):
        scripted.put_file("k", path)


def test_a_put_with_a_lost_response_is_not_repeated(scripted: R2Store, stub: Stub) -> None:
    """A conditional put whose response is lost is sent once: a second would conflict with the first one's success."""
    stub.script(DROP)
    with pytest.raises(RetryableError):
        scripted.put("k", b"x", expected=ABSENT)
    assert len(stub.requests) == 1


def test_only_no_such_key_means_absence(scripted: R2Store, stub: Stub) -> None:
    """Only the code NoSuchKey means absence; a missing bucket or a bare 404 does not."""
    stub.script(s3_error(404, "NoSuchKey"))
    assert scripted.get("k") is None
    assert scripted.get_range(Range("k", 0, 1)) is None
    stub.script(s3_error(404, "NoSuchBucket"))
    for call in (
        lambda: scripted.get("k"),
        lambda: scripted.get_range(Range("k", 0, 1)),
        lambda: scripted.assemble("k", [Range("l", 0, 1)]),
        lambda: list(scripted.list("")),
        lambda: scripted.delete(["k"]),
    ):
        with pytest.raises(ConfigError, match="BUCKET"):
            call()
    stub.script(Reply(404))
    with pytest.raises(RetryableError):
        scripted.get("k")


def test_a_truncated_download_is_retryable(scripted: R2Store, stub: Stub) -> None:
    """Fewer bytes than announced are an error, never a short object."""
    stub.script(object_reply(b"12345", **{"Content-Length": "10"}))
    with pytest.raises(RetryableError):
        scripted.get_range(Range("k", 0, 10))
    stub.script(object_reply(b"12345", **{"Content-Length": "10"}))
    with pytest.raises(RetryableError):
        scripted.get("k")


def test_a_store_that_ignores_range_is_an_error(scripted: R2Store, stub: Stub) -> None:
    """Bytes from the start of the object never pass for bytes from its middle."""
    stub.script(object_reply(b"12345"))
    with pytest.raises(PermanentError, match="Range"):
        scripted.get_range(Range("k", 2, 2))
    assert scripted.get_range(Range("k", 0, 2)) == b"12"


def test_the_bulk_client_repeats_nothing(scripted: R2Store, stub: Stub) -> None:
    """The bulk client sends a request once; only the wrapper repeats it."""
    stub.script(s3_error(503, "SlowDown"), object_reply(b"12"))
    with pytest.raises(RetryableError):
        scripted.get_range(Range("k", 0, 2))
    assert len(stub.requests) == 1
    stub.script(s3_error(503, "SlowDown"), object_reply(b"12"))
    assert RetryingStore(scripted, ManualClock()).get_range(Range("k", 0, 2)) == b"12"
    assert len(stub.requests) == 2


def test_a_listing_follows_its_pages(scripted: R2Store, stub: Stub) -> None:
    """A listing yields all pages, and fetches each when it is needed."""
    stub.script(page("a", "b", following="t"), page("c"))
    listing = scripted.list("p/")
    assert next(listing).key == "a"
    assert len(stub.requests) == 1
    assert [listed.key for listed in listing] == ["b", "c"]
    assert "continuation-token=t" in stub.requests[1].path
    assert "prefix=p%2F" in stub.requests[1].path


def test_without_batch_deletes_keys_are_deleted_one_by_one(scripted: R2Store, stub: Stub) -> None:
    """If the store does not support batch deletes, keys are deleted one by one from then on."""
    stub.script(s3_error(501, "NotImplemented"), Reply(204))
    scripted.delete(["a", "b"])
    scripted.delete(["c"])
    assert [sent.method for sent in stub.requests] == ["POST", "DELETE", "DELETE", "DELETE"]
    assert {sent.path for sent in stub.requests[1:]} == {"/b/a", "/b/b", "/b/c"}


def test_keys_that_a_batch_failed_to_delete_are_deleted_one_by_one(scripted: R2Store, stub: Stub) -> None:
    """Keys that a batch reports as failed are deleted one by one, and then an error is raised."""
    partly = Reply(200, b"<DeleteResult><Error><Key>b</Key><Code>InternalError</Code></Error></DeleteResult>")
    stub.script(partly, Reply(204))
    scripted.delete(["a", "b"])
    assert [sent.path for sent in stub.requests[1:]] == ["/b/b"]
    stub.script(partly, s3_error(403, "AccessDenied"))
    with pytest.raises(ConfigError):
        scripted.delete(["a", "b"])


def test_files_larger_than_a_part(wire_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of several parts arrives whole, and ranges of it can be read."""
    parts = TransferConfig(
        multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=2, preferred_transfer_client="classic"
    )
    monkeypatch.setattr(r2, "TRANSFER", parts)
    store, path = wire_store(), tmp_path / "f"
    content = bytes(range(256)) * (11 << 12)  # 11 MiB
    path.write_bytes(content)
    store.put_file("k", path)
    assert store.get_range(Range("k", (5 << 20) - 7, 3 << 20)) == content[(5 << 20) - 7 : (8 << 20) - 7]
    assert [listed.size_bytes for listed in store.list("")] == [len(content)]


def test_empty_objects_and_ranges(wire_store: MakeStore) -> None:
    """An empty object, and a range beyond the end, are not errors: the object exists."""
    store = wire_store()
    store.put("k", b"")
    assert store.get_range(Range("k", 0, 4)) == b""
    store.put("m", b"123")
    assert store.get_range(Range("m", 3, 4)) == b""
    assert store.get_range(Range("m", 1, 9)) == b"23"


def test_invalid_settings_are_found_before_anything_is_sent() -> None:
    """Creating a store with invalid settings raises an error."""
    for change in ({"endpoint": "nowhere"}, {"bucket": ""}, {"credentials": Credentials(key_id="", secret="b")}):
        right: dict[str, Any] = {"endpoint": "https://h", "region": "auto", "credentials": KEYS, "bucket": "b"}
        with pytest.raises(ConfigError):
            r2.connect(**{**right, **change}, clock=ManualClock())
