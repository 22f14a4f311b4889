"""Inspect, create and configure the queue and the bucket themselves, for `holdfast setup` and `holdfast doctor` only.

A worker uses none of these calls, and its keys need not allow them.
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

from adapters.aws.clients import CONTROL, AnyCredentials, make_client, queue_endpoint, store_endpoint
from adapters.aws.error_mapping import S3, SQS, error_code, http_status, mapped_errors
from adapters.aws.queue import MISSING_QUEUE
from adapters.retrier import READ, WRITE, Retrier, retried
from lifecycle.ports.clock import Clock

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_sqs.client import SQSClient

DEFAULT_REGIONS = frozenset({"auto", "us-east-1"})  # regions that CreateBucket must not name
NO_BUCKET = frozenset({"NoSuchBucket", "404"})
ALREADY_OURS = "BucketAlreadyOwnedByYou"
DIGEST_MISMATCH = frozenset({"BadDigest", "InvalidDigest"})
Attributes = Mapping[str, str]


@frozen
class QueueAdmin:
    """The queues of one account and region.

    Attributes:
        client: Client for short calls.
        url: The job queue's URL.
        region: Its region.
        retry: Retries each call.
    """

    client: "SQSClient"
    url: str
    region: str
    retry: Retrier

    @property
    def name(self) -> str:
        """Name of the job queue: the last part of its URL."""
        return urlsplit(self.url).path.rstrip("/").rpartition("/")[2]

    @retried(READ)
    def attributes(self, url: str) -> Attributes | None:
        """Return all attributes of a queue, as SQS names them; None if there is no such queue."""
        with mapped_errors(f"look at {url}", SQS):
            try:
                response = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            except ClientError as error:
                if error_code(error) in MISSING_QUEUE:
                    return None
                raise
        return {str(name): str(value) for name, value in response.get("Attributes", {}).items()}

    @retried(READ)
    def url_of(self, name: str) -> str | None:
        """Return the URL of the queue called *name*; None if there is none."""
        with mapped_errors(f"look for the queue {name}", SQS):
            try:
                return self.client.get_queue_url(QueueName=name)["QueueUrl"]
            except ClientError as error:
                if error_code(error) in MISSING_QUEUE:
                    return None
                raise

    @retried(WRITE)
    def create(self, name: str, attributes: Attributes) -> str:
        """Create a queue and return its URL. Safe to repeat with the same attributes."""
        given: Any = dict(attributes)
        with mapped_errors(f"create the queue {name}", SQS):
            return self.client.create_queue(QueueName=name, Attributes=given)["QueueUrl"]

    @retried(WRITE)
    def change(self, url: str, attributes: Attributes) -> None:
        """Set some attributes of a queue; the others are unchanged. Safe to repeat."""
        given: Any = dict(attributes)
        with mapped_errors(f"change {url}", SQS):
            self.client.set_queue_attributes(QueueUrl=url, Attributes=given)


@frozen
class BucketAdmin:
    """One bucket, in a region; R2's region is `auto`.

    Attributes:
        client: Client for short calls.
        bucket: The bucket's name.
        region: Its region.
        retry: Retries each call.
    """

    client: "S3Client"
    bucket: str
    region: str
    retry: Retrier

    @retried(READ)
    def exists(self) -> bool:
        """Return True if the bucket exists.

        Raises:
            ConfigError: The keys are wrong, or do not allow listing.
        """
        with mapped_errors(f"look at the bucket {self.bucket}", S3):
            try:
                self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
            except ClientError as error:
                if error_code(error) in NO_BUCKET or http_status(error) == 404:  # noqa: PLR2004 - not found
                    return False
                raise
        return True

    @retried(READ)
    def time(self) -> datetime | None:
        """Return the store's time, to a second; None if it sends none."""
        with mapped_errors(f"look at the bucket {self.bucket}", S3):
            response = self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
        try:
            return parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        except (KeyError, ValueError):
            return None

    @retried(WRITE)
    def refuses_wrong_bytes(self, key: str) -> bool:
        """Return True if the store refuses a body that contradicts its Content-MD5; if not, it has written *key*."""
        digest = base64.b64encode(hashlib.md5(b"sent", usedforsecurity=False).digest()).decode()
        with mapped_errors(f"put {key}", S3):
            try:
                self.client.put_object(Bucket=self.bucket, Key=key, Body=b"something else", ContentMD5=digest)
            except ClientError as error:
                if error_code(error) in DIGEST_MISMATCH:
                    return True
                raise
        return False

    @retried(WRITE)
    def put_with_expect_s(self, key: str) -> float:
        """Return the seconds that a small put to *key* takes if the client waits for "100 Continue", as boto3 does."""
        events = self.client.meta.events
        events.register("before-call.s3", add_expect_header)
        try:
            with mapped_errors(f"put {key}", S3):
                began = time.perf_counter()
                self.client.put_object(Bucket=self.bucket, Key=key, Body=io.BytesIO(b"small"))
                return time.perf_counter() - began
        finally:
            events.unregister("before-call.s3", add_expect_header)

    @retried(WRITE)
    def create(self) -> None:
        """Create the bucket. Safe to repeat."""
        location: Any = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        with mapped_errors(f"create the bucket {self.bucket}", S3):
            try:
                self.client.create_bucket(Bucket=self.bucket, **({} if self.region in DEFAULT_REGIONS else location))
            except ClientError as error:
                if error_code(error) != ALREADY_OURS:  # an attempt whose answer was lost has created it
                    raise


def queue_admin(*, url: str, credentials: AnyCredentials, clock: Clock, region: str = "") -> QueueAdmin:
    """Create a `QueueAdmin` for the account and region of the queue at *url*; nothing is sent.

    Raises:
        ConfigError: The URL or a key is invalid.
    """
    endpoint, region = queue_endpoint(url, region)
    client = make_client(SQS, CONTROL, endpoint=endpoint, region=region, credentials=credentials)
    return QueueAdmin(client, url, region, Retrier("queue", clock))


def bucket_admin(*, endpoint: str, region: str, bucket: str, credentials: AnyCredentials, clock: Clock) -> BucketAdmin:
    """Create a `BucketAdmin`; nothing is sent.

    Raises:
        ConfigError: The endpoint, the bucket's name or a key is invalid.
    """
    location = store_endpoint(endpoint, bucket)
    client = make_client(S3, CONTROL, endpoint=location, region=region, credentials=credentials)
    return BucketAdmin(client, bucket, region, Retrier("store", clock))


def redrive_of(attributes: Attributes) -> tuple[str, int] | None:
    """Return the ARN of a queue's dead-letter queue and the limit of receives; None if there is no such policy."""
    try:
        policy = json.loads(attributes["RedrivePolicy"])
        return str(policy["deadLetterTargetArn"]), int(policy["maxReceiveCount"])
    except (KeyError, ValueError, TypeError):
        return None
