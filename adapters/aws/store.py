"""ObjectStore on Cloudflare R2, or any S3.

What R2 does, as far as it shows here (sources: Cloudflare's R2 documentation, and tests of real accounts):

- It honours `If-Match` and `If-None-Match: *` on PUT, and on neither COPY nor DELETE; so only `put` has a condition.
- It takes one write a second to a key, and answers 429 to more.
- All parts of a multipart upload but the last must be equal in size: the transfer manager's are.
- It refuses the checksum trailers that boto3 sends by default; so bodies are checked by Content-MD5, and files by the
  size here and by the hashes in our manifests.

Versions are ETags, quotes included, as the store gave them. Ceph's gateway wants them without: the canary refuses it.
"""

import base64
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from adapters.aws.clients import BULK, CALL_THREADS, CONTROL, TRANSFER_THREADS, Keys, lazy_client, store_place
from adapters.aws.error_mapping import S3, code_of, status_of, translating
from adapters.aws.s3_http import S3Http, is_plain_way
from adapters.aws.s3_listing import read_page
from lifecycle.errors import ConfigError, PermanentError, RetryableError
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import Absent, Body, ListedObject, ObjectStore, Range, StoredObject, Version

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

SMALL_BYTES: Final = 1 << 20  # of an object that is put with a checksum of its own
PART_BYTES: Final = 64 << 20  # fewer, larger parts cost a third of the CPU of boto3's 8 MiB
DELETE_BATCH: Final = 1000  # keys, by S3's limit
NO_SUCH_KEY: Final = "NoSuchKey"
NOT_FOUND: Final = 404

TRANSFER: Final = TransferConfig(
    multipart_threshold=PART_BYTES,
    multipart_chunksize=PART_BYTES,
    max_concurrency=TRANSFER_THREADS,
    preferred_transfer_client="classic",  # the other one, CRT, sends R2's bytes to AWS
)

log = logging.getLogger("holdfast.r2")


class R2Store:
    """One bucket.

    Args:
        direct: Puts and gets small objects, sending once; None lets *control* do it.
        packer: Puts large ones, sending once; None lets *bulk* do it.
        control: A client that sends once, for small objects.
        bulk: A client that is patient and tries again, for what is big or safe to repeat.
        bucket: Its name.
        clock: Stands in for the store's clock where that does not tell its time.
    """

    def __init__(
        self,
        *,
        direct: S3Http | None,
        packer: S3Http | None,
        control: "S3Client",
        bulk: "S3Client",
        bucket: str,
        clock: Clock,
    ) -> None:
        self._direct = direct
        self._packer = packer
        self._control = control
        self._bulk = bulk
        self._bucket = bucket
        self._clock = clock
        self._takes_batches = True

    def get(self, key: str) -> StoredObject | None:
        """See `ObjectStore.get`."""
        with translating(f"get {key}", S3):
            try:
                if self._direct is not None:
                    said = self._direct.get(key)
                    written = parsedate_to_datetime(said.headers["Last-Modified"])
                    return StoredObject(said.body, said.headers["ETag"], self._age_s(said.headers["Date"], written))
                answer = self._control.get_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if code_of(error) == NO_SUCH_KEY:
                    return None
                raise
            with closing(answer["Body"]) as body:
                content = body.read()
            _expect_whole(answer, content, key)
            return StoredObject(content, answer["ETag"], self._age_s(_date(answer), answer["LastModified"]))

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        """See `ObjectStore.put`. What is small, or has a condition, is sent once."""
        if expected is None and len(body) > SMALL_BYTES:
            return self._put_large(key, body)
        checksum = hashlib.md5(body, usedforsecurity=False).digest()
        headers = {"Content-MD5": base64.b64encode(checksum).decode()}
        if isinstance(expected, Absent):
            headers["If-None-Match"] = "*"
        elif expected is not None:
            headers["If-Match"] = expected
        with translating(f"put {key}", S3):
            if self._direct is not None:
                return self._direct.put(key, bytes(body), headers=headers)
            as_the_client_has_them: Any = {name.replace("-", ""): value for name, value in headers.items()}
            return self._control.put_object(Bucket=self._bucket, Key=key, Body=bytes(body), **as_the_client_has_them)[
                "ETag"
            ]

    def _put_large(self, key: str, body: Body) -> Version:
        """Over HTTPS neither hashed nor signed, which would cost more than sending it: its hash is in a manifest."""
        with translating(f"put {key}", S3):
            if self._packer is not None:
                return self._packer.put(key, body)
            return self._bulk.put_object(Bucket=self._bucket, Key=key, Body=bytes(body))["ETag"]

    def get_range(self, wanted: Range) -> bytes | None:
        """See `ObjectStore.get_range`."""
        last = wanted.offset + wanted.length - 1
        with translating(f"get {wanted}", S3):
            try:
                answer = self._bulk.get_object(
                    Bucket=self._bucket, Key=wanted.key, Range=f"bytes={wanted.offset}-{last}"
                )
            except ClientError as error:
                if code_of(error) == NO_SUCH_KEY:
                    return None
                if code_of(error) == "InvalidRange":  # the object ends before it
                    return b""
                raise
            with closing(answer["Body"]) as body:
                if wanted.offset and "ContentRange" not in answer:
                    raise PermanentError(f"get {wanted.key}: the store ignores Range")
                content = body.read()
            _expect_whole(answer, content, wanted.key)
        return content[: wanted.length]

    def put_file(self, key: str, path: Path) -> None:
        """See `ObjectStore.put_file`. What arrived is measured before it returns."""
        size_bytes = path.stat().st_size
        with translating(f"upload {key}", S3):
            self._bulk.upload_file(str(path), self._bucket, key, Config=TRANSFER)
        there = self._size_bytes(key)
        if there != size_bytes:
            raise RetryableError(f"upload {key}: {size_bytes} bytes were sent, and {there} are there")

    def assemble(self, key: str, parts: Sequence[Range | Callable[[], bytes]]) -> bool:
        """See `ObjectStore.assemble`. A multipart upload that comes to nothing is aborted, or R2 does so in a week."""
        place: Any = {"Bucket": self._bucket, "Key": key}
        with translating(f"assemble {key}", S3):
            upload: Any = {**place, "UploadId": self._bulk.create_multipart_upload(**place)["UploadId"]}
        try:
            made = [self._part(upload, number, part) for number, part in enumerate(parts, 1)]
            whole = None not in made
            if whole:
                with translating(f"assemble {key}", S3):
                    # "200 OK" may come before the work is done; the ETag is its end.
                    whole = bool(
                        self._bulk.complete_multipart_upload(**upload, MultipartUpload={"Parts": made})["ETag"]
                    )
        except BaseException:
            self._abort(upload)
            raise
        if not whole:
            self._abort(upload)
        return whole

    def _part(self, upload: Any, number: int, part: Range | Callable[[], bytes]) -> Any:
        """One part of a multipart upload; None if what it is to be copied from is not there."""
        if not isinstance(part, Range):
            content = part()
            with translating(f"upload part {number} of {upload['Key']}", S3):
                etag = self._bulk.upload_part(**upload, PartNumber=number, Body=content)["ETag"]
            return {"PartNumber": number, "ETag": etag}
        source: Any = {"Bucket": self._bucket, "Key": part.key}
        piece = f"bytes={part.offset}-{part.offset + part.length - 1}"
        with translating(f"copy {part} to {upload['Key']}", S3):
            try:
                copied = self._bulk.upload_part_copy(
                    **upload, PartNumber=number, CopySource=source, CopySourceRange=piece
                )
            except ClientError as error:
                if status_of(error) == NOT_FOUND and self._is_absent(part.key):
                    return None
                raise
            return {"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]}

    def _is_absent(self, key: str) -> bool:
        """Whether the store says in words that there is no *key*: a copy's 404 may as well mean something else."""
        return self.get_range(Range(key, 0, 1)) is None

    def _abort(self, upload: Any) -> None:
        try:
            self._bulk.abort_multipart_upload(**upload)
        except (BotoCoreError, ClientError) as error:
            log.info("an upload of %s is left behind: %s", upload["Key"], error)

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """See `ObjectStore.list`. A page has up to 1000 keys, and R2 charges it like a write."""
        following: str | None = ""
        while following is not None:
            with translating(f"list {prefix}", S3):
                page, following = (self._page if self._direct is None else self._page_directly)(prefix, following)
            yield from page

    def _page(self, prefix: str, following: str) -> tuple[Sequence[ListedObject], str | None]:
        """A page of a listing, and how to go on."""
        more: Any = {"ContinuationToken": following} if following else {}
        page = self._bulk.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **more)
        date = _date(page)
        listed = [
            ListedObject(found["Key"], found["Size"], found["ETag"], self._age_s(date, found["LastModified"]))
            for found in page.get("Contents", ())
        ]
        # The end of a page must be said, or a page that was cut short would say that there is nothing.
        return listed, page["NextContinuationToken"] if page["IsTruncated"] else None

    def _page_directly(self, prefix: str, following: str) -> tuple[Sequence[ListedObject], str | None]:
        """The same, in a tenth of the time."""
        assert self._direct is not None  # noqa: S101 - tells the type checker
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
        answer = self._direct.ask(**query, **({"continuation-token": following} if following else {}))
        rows, going_on = read_page(answer.body)
        date = answer.headers["Date"]
        return [ListedObject(row.key, row.size, row.etag, self._age_s(date, row.written)) for row in rows], going_on

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`. A store that does not take batches is asked key by key."""
        rest = iter(keys)
        while batch := list(islice(rest, DELETE_BATCH)):
            if not self._takes_batches:
                self._delete_each(batch)
                continue
            try:
                left = self._delete_batch(batch)
            except (PermanentError, ConfigError) as error:
                self._delete_each(batch)
                self._takes_batches = False
                log.info("the store refuses to delete in batches: %s", error)
            else:
                self._delete_each(left)

    def _delete_batch(self, keys: Sequence[str]) -> Sequence[str]:
        """Delete *keys*; returns those that the store could not."""
        with translating(f"delete {len(keys)} keys from {keys[0]} on", S3):
            answer = self._bulk.delete_objects(
                Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        return [failed["Key"] for failed in answer.get("Errors", ())]

    def _delete_each(self, keys: Sequence[str]) -> None:
        if keys:
            with ThreadPoolExecutor(min(CALL_THREADS, len(keys)), thread_name_prefix="r2-delete") as pool:
                for _ in pool.map(self._delete_one, keys):
                    pass

    def _delete_one(self, key: str) -> None:
        with translating(f"delete {key}", S3):
            try:
                self._bulk.delete_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if code_of(error) != NO_SUCH_KEY:
                    raise

    def _size_bytes(self, key: str) -> int | None:
        """The object's size; None if it is not there, or the bucket is not."""
        with translating(f"look at {key}", S3):
            try:
                return self._bulk.head_object(Bucket=self._bucket, Key=key)["ContentLength"]
            except ClientError as error:
                if status_of(error) == NOT_FOUND:
                    return None
                raise

    def _age_s(self, date: str | None, written: datetime) -> float:
        """Seconds from *written* to *date*, the moment of an answer, both by the store's clock."""
        asked = _moment(date) if date else None
        return max(0.0, ((asked or self._clock.now()) - written).total_seconds())


@lru_cache(maxsize=64)
def _moment(date: str) -> datetime | None:
    """What an answer's `Date` says; None if that is nothing. A page of a listing asks for it a thousand times."""
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # "-0000": UTC, by RFC 5322


def _date(answer: Mapping[str, Any]) -> str | None:
    """When the store answered, in its own words."""
    date: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return date


def _expect_whole(answer: Mapping[str, Any], content: bytes, key: str) -> None:
    """Find half an answer, which must be taken for neither a short object nor an empty one."""
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    if "transfer-encoding" not in headers and len(content) != answer["ContentLength"]:
        raise RetryableError(f"get {key}: {len(content)} bytes came of {answer['ContentLength']}")


def connect(*, endpoint: str, region: str, credentials: Keys, bucket: str, clock: Clock) -> R2Store:
    """Make an `R2Store` with clients of its own; sends nothing.

    Raises:
        ConfigError: The endpoint, the bucket's name or a key cannot be right.
    """
    place = store_place(endpoint, bucket)
    control, bulk = (
        lazy_client(S3, kind, endpoint=place, region=region, credentials=credentials) for kind in (CONTROL, BULK)
    )
    direct = packer = None
    if is_plain_way(place):
        direct, packer = (
            S3Http(endpoint=place, region=region, credentials=credentials, bucket=bucket, kind=kind)
            for kind in (CONTROL, BULK)
        )
    return R2Store(direct=direct, packer=packer, control=control, bulk=bulk, bucket=bucket, clock=clock)


if TYPE_CHECKING:

    def _conforms(store: R2Store) -> ObjectStore:
        return store
