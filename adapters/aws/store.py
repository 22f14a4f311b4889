"""ObjectStore on Cloudflare R2 or any other S3 service.

R2 differs from S3 in ways that matter here (https://developers.cloudflare.com/r2/api/s3/api/ and tests with accounts):

- It honours `If-Match` and `If-None-Match: *` on PUT but not on COPY or DELETE, so only `put` is conditional.
- It accepts one write per second to a key, and answers 429 to more
  (https://developers.cloudflare.com/r2/platform/limits/).
- All parts of a multipart upload but the last must have the same size, as the transfer manager's do.
- It refuses the checksum trailers that boto3 sends by default. Small bodies therefore carry Content-MD5; files are
  checked by their size here, and by the hashes in our manifests.

Versions are ETags as the store sent them, quotes included. Ceph's gateway expects them without quotes; the preflight
check refuses such a store.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from boto3.s3.transfer import S3Transfer, TransferConfig
from botocore.exceptions import ClientError

from adapters.aws.clients import (
    BULK,
    CALL_THREADS,
    CONTROL,
    TRANSFER_THREADS,
    AnyCredentials,
    lazy_client,
    store_endpoint,
)
from adapters.aws.error_mapping import S3, error_code, http_status, mapped_errors
from adapters.aws.multipart import NOT_FOUND, Assembly
from adapters.aws.retried_client import RetriedClient
from adapters.aws.s3_http import S3Http, is_proxied
from adapters.aws.s3_listing import parse_page
from adapters.retrier import PART, Retrier, retried
from adapters.retry_listeners import RetryListeners
from lifecycle.errors import ConfigError, PermanentError, RetryableError
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import Absent, Body, ListedObject, ObjectStore, Range, StoredObject, Version
from lifecycle.structured_log import StructuredLogger

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

SMALL_BYTES: Final = 1 << 20  # up to this size, an unconditional put carries a checksum and is sent once
PART_BYTES: Final = 64 << 20  # fewer, larger parts cost a third of the CPU time of boto3's 8 MiB
DELETE_BATCH: Final = 1000  # keys in one request: S3's limit
NO_SUCH_KEY: Final = "NoSuchKey"
INVALID_RANGE: Final = "InvalidRange"

TRANSFER: Final = TransferConfig(
    multipart_threshold=PART_BYTES,
    multipart_chunksize=PART_BYTES,
    max_concurrency=TRANSFER_THREADS,
    preferred_transfer_client="classic",  # the alternative, CRT, ignores the endpoint and sends the bytes to AWS
)

log = StructuredLogger("holdfast.r2")


class R2Store:
    """One bucket. Thread-safe.

    Args:
        small_http: Sends small puts, gets and listings once; None: *control* does, and *bulk* lists.
        large_http: Sends large puts once; None: *bulk* does.
        control: Client that sends once, for small objects.
        bulk: Client with long time-outs, for large objects and calls that are safe to repeat.
        bucket: The bucket's name.
        clock: Used for the pauses between attempts.
        listeners: Notified of each request within a call that is retried.
    """

    def __init__(
        self,
        *,
        small_http: S3Http | None,
        large_http: S3Http | None,
        control: "S3Client",
        bulk: "S3Client",
        bucket: str,
        clock: Clock,
        listeners: RetryListeners | None = None,
    ) -> None:
        self._small_http = small_http
        self._large_http = large_http
        self._control = control
        self._bulk = bulk
        self._bucket = bucket
        self.retry = Retrier("store", clock, listeners or RetryListeners())
        self._deletes_batches = True

    def get(self, key: str) -> StoredObject | None:
        """See `ObjectStore.get`."""
        with mapped_errors(f"get {key}", S3):
            try:
                return (
                    self._get_by_client(key) if self._small_http is None else self._get_by_http(self._small_http, key)
                )
            except ClientError as error:
                if error_code(error) == NO_SUCH_KEY:
                    return None
                raise

    def _get_by_http(self, http: S3Http, key: str) -> StoredObject:
        response = http.get(key)
        written = _parse_date(response.headers["Last-Modified"])
        return StoredObject(response.body, response.headers["ETag"], _age_s(response.headers["Date"], written))

    def _get_by_client(self, key: str) -> StoredObject:
        response = self._control.get_object(Bucket=self._bucket, Key=key)
        with closing(response["Body"]) as body:
            content = body.read()
        _require_whole(response, content, key)
        return StoredObject(content, response["ETag"], _age_s(_date(response), response["LastModified"]))

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        """See `ObjectStore.put`. A small or conditional put is sent once."""
        if expected is None and len(body) > SMALL_BYTES:
            return self._put_large(key, body)
        checksum = hashlib.md5(body, usedforsecurity=False).digest()
        headers = {"Content-MD5": base64.b64encode(checksum).decode()}
        if isinstance(expected, Absent):
            headers["If-None-Match"] = "*"
        elif expected is not None:
            headers["If-Match"] = expected
        with mapped_errors(f"put {key}", S3):
            if self._small_http is not None:
                return self._small_http.put(key, bytes(body), headers=headers)
            arguments: Any = {name.replace("-", ""): value for name, value in headers.items()}  # as boto3 names them
            return self._control.put_object(Bucket=self._bucket, Key=key, Body=bytes(body), **arguments)["ETag"]

    def _put_large(self, key: str, body: Body) -> Version:
        """Put a body whose hash is in a manifest: hashing it again would cost more than sending it over HTTPS."""
        with mapped_errors(f"put {key}", S3):
            if self._large_http is not None:
                return self._large_http.put(key, body)
            return self._bulk.put_object(Bucket=self._bucket, Key=key, Body=bytes(body))["ETag"]

    def get_range(self, wanted: Range) -> bytes | None:
        """See `ObjectStore.get_range`."""
        last = wanted.offset + wanted.length - 1
        with mapped_errors(f"get {wanted}", S3):
            try:
                response = self._bulk.get_object(
                    Bucket=self._bucket, Key=wanted.key, Range=f"bytes={wanted.offset}-{last}"
                )
            except ClientError as error:
                if error_code(error) == NO_SUCH_KEY:
                    return None
                if error_code(error) == INVALID_RANGE:  # the object ends before the offset
                    return b""
                raise
            content = _read_range(response, wanted)
            _require_whole(response, content, wanted.key)
        return content[: wanted.length]

    def put_file(self, key: str, path: Path) -> None:
        """See `ObjectStore.put_file`. Compares the size that arrived before it returns."""
        size_bytes = path.stat().st_size
        with mapped_errors(f"upload {key}", S3):
            client: Any = RetriedClient(self._bulk, self.retry, f"upload {key}", S3)
            settings: Any = TRANSFER  # the stubs give it another type
            S3Transfer(client, settings).upload_file(str(path), self._bucket, key)
        stored_bytes = self._size_bytes(key)
        if stored_bytes != size_bytes:
            raise RetryableError(f"upload {key}: sent {size_bytes} bytes, but the store has {stored_bytes}")

    def assemble(self, key: str, parts: Sequence[Range | Callable[[], bytes]]) -> bool:
        """See `ObjectStore.assemble`. A multipart upload that fails is aborted."""
        upload = Assembly(self._bulk, bucket=self._bucket, key=key, is_absent=self._is_absent, retry=self.retry)
        return upload.run(parts)

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """See `ObjectStore.list`. Fetches pages of up to 1000 keys; R2 charges each like a write."""
        token: str | None = ""
        while token is not None:
            with mapped_errors(f"list {prefix}", S3):
                if self._small_http is None:
                    page, token = self._page_by_client(prefix, token)
                else:
                    page, token = self._page_by_http(self._small_http, prefix, token)
            yield from page

    def _page_by_client(self, prefix: str, token: str) -> tuple[Sequence[ListedObject], str | None]:
        """Return a page and the token of the next one; None after the last."""
        following: Any = {"ContinuationToken": token} if token else {}
        page = self._bulk.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **following)
        date = _date(page)
        objects = [
            ListedObject(found["Key"], found["Size"], found["ETag"], _age_s(date, found["LastModified"]))
            for found in page.get("Contents", ())
        ]
        # IsTruncated must be there: a truncated response would otherwise pass for the end of the listing.
        return objects, page["NextContinuationToken"] if page["IsTruncated"] else None

    def _page_by_http(self, http: S3Http, prefix: str, token: str) -> tuple[Sequence[ListedObject], str | None]:
        """Return the same in a tenth of the time."""
        following = {"continuation-token": token} if token else {}
        response = http.query(**{"list-type": "2", "encoding-type": "url", "prefix": prefix}, **following)
        rows, next_token = parse_page(response.body)
        date = response.headers["Date"]
        return [ListedObject(row.key, row.size, row.etag, _age_s(date, row.written)) for row in rows], next_token

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`. Deletes key by key if the store does not support batches."""
        rest = iter(keys)
        while batch := list(islice(rest, DELETE_BATCH)):
            if not self._deletes_batches:
                self._delete_each(batch)
                continue
            try:
                failed = self._delete_batch(batch)
            except (PermanentError, ConfigError) as error:
                self._delete_each(batch)
                self._deletes_batches = False
                log.info("batch_delete.refused", error=str(error))
            else:
                self._delete_each(failed)

    def _delete_batch(self, keys: Sequence[str]) -> Sequence[str]:
        """Delete *keys* and return those that the store could not delete."""
        with mapped_errors(f"delete {len(keys)} keys from {keys[0]} on", S3):
            response = self._bulk.delete_objects(
                Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        return [failed["Key"] for failed in response.get("Errors", ())]

    def _delete_each(self, keys: Sequence[str]) -> None:
        if keys:
            with ThreadPoolExecutor(min(CALL_THREADS, len(keys)), thread_name_prefix="r2-delete") as pool:
                for _ in pool.map(self._delete_one, keys):
                    pass

    def _delete_one(self, key: str) -> None:
        with mapped_errors(f"delete {key}", S3):
            try:
                self._bulk.delete_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if error_code(error) != NO_SUCH_KEY:
                    raise

    def _is_absent(self, key: str) -> bool:
        """Return True if the store answers "no such key", and not just 404."""
        return self.get_range(Range(key, 0, 1)) is None

    @retried(PART)
    def _size_bytes(self, key: str) -> int | None:
        """Return the object's size; None if the object or the bucket is absent."""
        with mapped_errors(f"look at {key}", S3):
            try:
                return self._bulk.head_object(Bucket=self._bucket, Key=key)["ContentLength"]
            except ClientError as error:
                if http_status(error) == NOT_FOUND:
                    return None
                raise


def _age_s(date: str | None, written: datetime | None) -> float | None:
    """Return the seconds from *written* to *date*, the response's date; both are by the store's clock.

    None if one of them is missing: this machine's clock may be hours off, and a live job would be taken from its owner.
    """
    now = _parse_date(date) if date else None
    return max(0.0, (now - written).total_seconds()) if now and written else None


@lru_cache(maxsize=64)
def _parse_date(date: str) -> datetime | None:
    """Parse a `Date` header; None if it is malformed. Cached, because a page of a listing needs it a thousand times."""
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # "-0000" means UTC: RFC 5322, section 3.3


def _date(response: Mapping[str, Any]) -> str | None:
    """Return the response's `Date` header."""
    date: str | None = response["ResponseMetadata"]["HTTPHeaders"].get("date")
    return date


def _read_range(response: Mapping[str, Any], wanted: Range) -> bytes:
    with closing(response["Body"]) as body:
        if wanted.offset and "ContentRange" not in response:
            raise PermanentError(f"get {wanted.key}: the store ignores Range")
        content: bytes = body.read()
        return content


def _require_whole(response: Mapping[str, Any], content: bytes, key: str) -> None:
    """Reject a truncated body, which must pass neither for a short object nor for an empty one."""
    headers = response["ResponseMetadata"]["HTTPHeaders"]
    if "transfer-encoding" not in headers and len(content) != response["ContentLength"]:
        raise RetryableError(f"get {key}: got {len(content)} of {response['ContentLength']} bytes")


def connect(
    *,
    endpoint: str,
    region: str,
    credentials: AnyCredentials,
    bucket: str,
    clock: Clock,
    certificates: str = "",
    listeners: RetryListeners | None = None,
) -> R2Store:
    """Create an `R2Store` with clients of its own; nothing is sent.

    Args:
        endpoint: URL of the store.
        region: Region of the store.
        credentials: Credentials for the store.
        bucket: Name of the bucket.
        clock: Used for the pauses between attempts.
        certificates: Value of REQUESTS_CA_BUNDLE; see `clients.ca_bundle`.
        listeners: Notified of each request within a call that is retried.

    Raises:
        ConfigError: The endpoint, the bucket's name or a key is invalid.
    """
    url = store_endpoint(endpoint, bucket)
    control, bulk = (
        lazy_client(S3, kind, endpoint=url, region=region, credentials=credentials) for kind in (CONTROL, BULK)
    )
    small_http = large_http = None
    if not is_proxied(url):
        small_http, large_http = (
            S3Http(
                endpoint=url,
                region=region,
                credentials=credentials,
                bucket=bucket,
                kind=kind,
                certificates=certificates,
            )
            for kind in (CONTROL, BULK)
        )
    return R2Store(
        small_http=small_http,
        large_http=large_http,
        control=control,
        bulk=bulk,
        bucket=bucket,
        clock=clock,
        listeners=listeners,
    )


if TYPE_CHECKING:

    def _conforms(store: R2Store) -> ObjectStore:
        return store
