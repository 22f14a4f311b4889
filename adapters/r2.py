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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from adapters.boto import BULK, CALL_THREADS, CONTROL, TRANSFER_THREADS, Credentials, lazy_client, store_place
from adapters.boto_errors import S3, code_of, status_of, translating
from adapters.direct import DirectPut, is_plain_way
from lifecycle.errors import ConfigError, PermanentError, RetryableError
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import Absent, Listed, ObjectStore, Stored, Version

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

CHUNK_BYTES: Final = 1 << 20  # of a download, in memory at once
PART_BYTES: Final = 64 << 20  # fewer, larger parts cost a third of the CPU of boto3's 8 MiB
COPY_LIMIT_BYTES: Final = 5 << 30  # of one copy, by S3's limit
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
        direct: Puts small objects, sending once; None lets *control* do it.
        control: A client that sends once, for small objects.
        bulk: A client that is patient and tries again, for what is big or safe to repeat.
        bucket: Its name.
        clock: Stands in for the store's clock where that does not tell its time.
    """

    def __init__(
        self, *, direct: DirectPut | None, control: "S3Client", bulk: "S3Client", bucket: str, clock: Clock
    ) -> None:
        self._direct = direct
        self._control = control
        self._bulk = bulk
        self._bucket = bucket
        self._clock = clock
        self._takes_batches = True

    def get(self, key: str) -> Stored | None:
        """See `ObjectStore.get`."""
        with translating(f"get {key}", S3):
            try:
                answer = self._control.get_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if code_of(error) == NO_SUCH_KEY:
                    return None
                raise
            with closing(answer["Body"]) as body:
                content = body.read()
            _expect_whole(answer, content, key)
            return Stored(content, answer["ETag"], self._age_s(answer, answer["LastModified"]))

    def put(self, key: str, body: bytes, *, expected: Version | Absent | None = None) -> Version:
        """See `ObjectStore.put`. Sent once, whether there is a condition or not."""
        checksum = hashlib.md5(body, usedforsecurity=False).digest()
        headers = {"Content-MD5": base64.b64encode(checksum).decode()}
        if isinstance(expected, Absent):
            headers["If-None-Match"] = "*"
        elif expected is not None:
            headers["If-Match"] = expected
        with translating(f"put {key}", S3):
            if self._direct is not None:
                return self._direct.put(key, body, headers=headers)
            as_the_client_has_them: Any = {name.replace("-", ""): value for name, value in headers.items()}
            return self._control.put_object(Bucket=self._bucket, Key=key, Body=body, **as_the_client_has_them)["ETag"]

    def get_range(self, key: str, into: BinaryIO, *, offset: int, length: int) -> bool:
        """See `ObjectStore.get_range`. Holds 1 MiB in memory at most."""
        last = offset + max(length, 1) - 1
        with translating(f"get bytes {offset}-{last} of {key}", S3):
            try:
                answer = self._bulk.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={offset}-{last}")
            except ClientError as error:
                if code_of(error) == NO_SUCH_KEY:
                    return False
                if code_of(error) == "InvalidRange":  # the object ends before *offset*
                    return True
                raise
            if offset and "ContentRange" not in answer:
                raise PermanentError(f"get {key}: the store ignores Range")
            with closing(answer["Body"]) as body:
                left = length
                while left > 0 and (piece := body.read(min(CHUNK_BYTES, left))):
                    into.write(piece)
                    left -= len(piece)
        return True

    def put_file(self, key: str, path: Path) -> None:
        """See `ObjectStore.put_file`. What arrived is measured before it returns."""
        size_bytes = path.stat().st_size
        with translating(f"upload {key}", S3):
            self._bulk.upload_file(str(path), self._bucket, key, Config=TRANSFER)
        there = self._size_bytes(key)
        if there != size_bytes:
            raise RetryableError(f"upload {key}: {size_bytes} bytes were sent, and {there} are there")

    def copy(self, source: str, target: str) -> bool:
        """See `ObjectStore.copy`."""
        with translating(f"copy {source} to {target}", S3):
            size_bytes = self._size_bytes(source)
            if size_bytes is None:
                if self._is_absent(source):
                    return False
                raise RetryableError(f"copy {source}: it is there, and cannot be looked at")
            place: Any = {"Bucket": self._bucket, "Key": source}
            if size_bytes <= COPY_LIMIT_BYTES:
                copied = self._bulk.copy_object(CopySource=place, Bucket=self._bucket, Key=target)
                return bool(copied["CopyObjectResult"]["ETag"])  # "200 OK" may come before the copy; this is its end
            self._bulk.copy(place, self._bucket, target, Config=TRANSFER)
        if self._size_bytes(target) != size_bytes:
            raise RetryableError(f"copy {source}: {target} is not of its size")
        return True

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `ObjectStore.list`. A page has up to 1000 keys, and R2 charges it like a write."""
        following: Any = {}
        while following is not None:
            with translating(f"list {prefix}", S3):
                page = self._bulk.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **following)
                # The end of a page must be said, or a page that was cut short would say that there is nothing.
                following = {"ContinuationToken": page["NextContinuationToken"]} if page["IsTruncated"] else None
            for found in page.get("Contents", ()):
                age_s = self._age_s(page, found["LastModified"])
                yield Listed(key=found["Key"], size_bytes=found["Size"], version=found["ETag"], age_s=age_s)

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

    def _is_absent(self, key: str) -> bool:
        """Whether the store says in words that there is no *key*: a HEAD's 404 may as well mean the bucket."""
        try:
            self._bulk.get_object(Bucket=self._bucket, Key=key, Range="bytes=0-0")["Body"].close()
        except ClientError as error:
            if code_of(error) == NO_SUCH_KEY:
                return True
            if code_of(error) == "InvalidRange":  # it is there, and empty
                return False
            raise
        return False

    def _age_s(self, answer: Mapping[str, Any], written: datetime) -> float:
        """Seconds from *written* to the moment of *answer*, both by the store's clock."""
        try:
            asked = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        except (KeyError, ValueError):
            asked = self._clock.now()
        if asked.tzinfo is None:  # "-0000": UTC, by RFC 5322
            asked = asked.replace(tzinfo=UTC)
        return max(0.0, (asked - written).total_seconds())


def _expect_whole(answer: Mapping[str, Any], content: bytes, key: str) -> None:
    """Find half an answer, which must be taken for neither a short object nor an empty one."""
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    if "transfer-encoding" not in headers and len(content) != answer["ContentLength"]:
        raise RetryableError(f"get {key}: {len(content)} bytes came of {answer['ContentLength']}")


def connect(
    *, endpoint: str, region: str, key_id: str, secret: str, token: str | None, bucket: str, clock: Clock
) -> R2Store:
    """Make an `R2Store` with clients of its own; sends nothing.

    Raises:
        ConfigError: The endpoint, the bucket's name or a key cannot be right.
    """
    place = store_place(endpoint, bucket)
    credentials = Credentials(key_id=key_id, secret=secret, token=token)
    control, bulk = (
        lazy_client(S3, kind, endpoint=place, region=region, credentials=credentials) for kind in (CONTROL, BULK)
    )
    direct = None
    if is_plain_way(place):
        direct = DirectPut(endpoint=place, region=region, credentials=credentials, bucket=bucket, kind=CONTROL)
    return R2Store(direct=direct, control=control, bulk=bulk, bucket=bucket, clock=clock)


if TYPE_CHECKING:

    def _proof(store: R2Store) -> ObjectStore:
        return store
