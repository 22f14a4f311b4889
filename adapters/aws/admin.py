"""Looking at, making and changing the queue and the bucket themselves: for `holdfast setup` and `holdfast doctor` only.

A worker needs none of this, and its keys need not allow it.
"""

import base64
import hashlib
import io
import json
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import frozen
from botocore.exceptions import ClientError
from botocore.handlers import add_expect_header

from adapters.aws.clients import CONTROL, Keys, make_client, queue_place, store_place
from adapters.aws.error_mapping import S3, SQS, code_of, status_of, translating
from adapters.aws.queue import MISSING_QUEUE

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_sqs.client import SQSClient

AT_HOME = frozenset({"auto", "us-east-1"})  # regions that are not named to where they are
NO_BUCKET = frozenset({"NoSuchBucket", "404"})
BAD_BYTES = frozenset({"BadDigest", "InvalidDigest"})
Attributes = Mapping[str, str]


@frozen
class QueueAdmin:
    """The queues of one account and region.

    Attributes:
        client: For quick calls.
        url: The job queue's.
    """

    client: "SQSClient"
    url: str

    @property
    def name(self) -> str:
        """The job queue's name, the last part of its URL."""
        return urlsplit(self.url).path.rstrip("/").rpartition("/")[2]

    def attributes(self, url: str) -> Attributes | None:
        """All attributes of a queue, as SQS names them; None if there is no such queue."""
        with translating(f"look at {url}", SQS):
            try:
                answer = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            except ClientError as error:
                if code_of(error) in MISSING_QUEUE:
                    return None
                raise
        return {str(name): str(value) for name, value in answer.get("Attributes", {}).items()}

    def url_of(self, name: str) -> str | None:
        """The URL of the queue called *name*; None if there is none."""
        with translating(f"look for the queue {name}", SQS):
            try:
                return self.client.get_queue_url(QueueName=name)["QueueUrl"]
            except ClientError as error:
                if code_of(error) in MISSING_QUEUE:
                    return None
                raise

    def create(self, name: str, attributes: Attributes) -> str:
        """Make a queue, and return its URL. Safe to repeat with the same attributes."""
        given: Any = dict(attributes)
        with translating(f"create the queue {name}", SQS):
            return self.client.create_queue(QueueName=name, Attributes=given)["QueueUrl"]

    def change(self, url: str, attributes: Attributes) -> None:
        """Set attributes of a queue; the others stay. Safe to repeat."""
        given: Any = dict(attributes)
        with translating(f"change {url}", SQS):
            self.client.set_queue_attributes(QueueUrl=url, Attributes=given)


@frozen
class BucketAdmin:
    """One bucket, in a region: R2's is `auto`."""

    client: "S3Client"
    bucket: str
    region: str

    def exists(self) -> bool:
        """Whether it is there, as far as these keys may know.

        Raises:
            ConfigError: The keys are wrong, or may not ask.
        """
        with translating(f"look at the bucket {self.bucket}", S3):
            try:
                self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
            except ClientError as error:
                if code_of(error) in NO_BUCKET or status_of(error) == 404:  # noqa: PLR2004 - not found
                    return False
                raise
        return True

    def time(self) -> datetime | None:
        """What the store takes the time for, to a second; None if it does not say."""
        with translating(f"look at the bucket {self.bucket}", S3):
            answer = self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
        try:
            return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        except (KeyError, ValueError):
            return None

    def refuses_wrong_bytes(self, key: str) -> bool:
        """Whether it refuses a body that is not what its Content-MD5 says; if not, it lies at *key* now."""
        digest = base64.b64encode(hashlib.md5(b"sent", usedforsecurity=False).digest()).decode()
        with translating(f"put {key}", S3):
            try:
                self.client.put_object(Bucket=self.bucket, Key=key, Body=b"something else", ContentMD5=digest)
            except ClientError as error:
                if code_of(error) in BAD_BYTES:
                    return True
                raise
        return False

    def put_with_expect_s(self, key: str) -> float:
        """Seconds that a small put to *key* takes for a client that waits for "100 Continue", as boto3 does."""
        events = self.client.meta.events
        events.register("before-call.s3", add_expect_header)
        try:
            with translating(f"put {key}", S3):
                began = time.perf_counter()
                self.client.put_object(Bucket=self.bucket, Key=key, Body=io.BytesIO(b"small"))
                return time.perf_counter() - began
        finally:
            events.unregister("before-call.s3", add_expect_header)

    def create(self) -> None:
        """Make it."""
        elsewhere: Any = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        with translating(f"create the bucket {self.bucket}", S3):
            self.client.create_bucket(Bucket=self.bucket, **({} if self.region in AT_HOME else elsewhere))


def queue_admin(*, url: str, credentials: Keys) -> QueueAdmin:
    """For the queue at *url*, whose account and region it is taken from; sends nothing.

    Raises:
        ConfigError: The URL or a key cannot be right.
    """
    endpoint, region = queue_place(url)
    return QueueAdmin(make_client(SQS, CONTROL, endpoint=endpoint, region=region, credentials=credentials), url)


def bucket_admin(*, endpoint: str, region: str, bucket: str, credentials: Keys) -> BucketAdmin:
    """For one bucket; sends nothing.

    Raises:
        ConfigError: The endpoint, the bucket's name or a key cannot be right.
    """
    place = store_place(endpoint, bucket)
    return BucketAdmin(make_client(S3, CONTROL, endpoint=place, region=region, credentials=credentials), bucket, region)


def redrive_of(attributes: Attributes) -> tuple[str, int] | None:
    """Where a queue's dead letters go, an ARN, and after how many receives; None if nowhere."""
    try:
        policy = json.loads(attributes["RedrivePolicy"])
        return str(policy["deadLetterTargetArn"]), int(policy["maxReceiveCount"])
    except (KeyError, ValueError, TypeError):
        return None
