"""Vendor errors are mapped to Holdfast's: by the table, and over the wire."""

from typing import Any

import botocore.session
import pytest
from botocore import exceptions as vendor
from botocore.parsers import ResponseParserError
from support.stub import DROP, HANG, Reply, Stub, s3_error, sqs_error

from adapters.aws.clients import CONTROL, ClientKind
from adapters.aws.error_mapping import CODES, S3, SQS, ErrorCategory, categorize, map_error, mapped_errors
from lifecycle.errors import ConfigError, HoldfastError, PermanentError, RetryableError, VersionConflictError

HASTY = ClientKind(connect_s=0.2, read_s=0.2, pool=2)
CALLS = {
    "sqs": "ReceiveMessage ChangeMessageVisibility DeleteMessage SendMessageBatch SendMessage GetQueueAttributes "
    "GetQueueUrl PurgeQueue",
    "s3": "GetObject PutObject HeadObject ListObjectsV2 DeleteObject DeleteObjects CopyObject CreateMultipartUpload "
    "UploadPart UploadPartCopy CompleteMultipartUpload AbortMultipartUpload",
}  # our calls
R2_CODES = {
    ConfigError: "Unauthorized AccessDenied ExpiredRequest SignatureDoesNotMatch NotEntitled InvalidBucketName "
    "NoSuchBucket ObjectLockedByBucketPolicy",
    VersionConflictError: "NoSuchKey PreconditionFailed",
    RetryableError: "IncompleteBody BadDigest NoSuchUpload InvalidPart InternalError ServiceUnavailable "
    "ClientDisconnect TooManyRequests",
    PermanentError: "BucketNotEmpty TooManyBuckets BucketConflict InvalidObjectName EntityTooLarge MetadataTooLarge "
    "MissingContentLength InvalidDigest InvalidRange EntityTooSmall",
}  # from the page "Error codes" of R2's documentation


def client_error(code: str, status: int) -> vendor.ClientError:
    """Return an error as botocore raises it."""
    answer: Any = {
        "Error": {"Code": code, "Message": "two\nlines"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return vendor.ClientError(answer, "Call")


@pytest.mark.parametrize("service", CALLS)
def test_every_modelled_error_is_mapped(service: str) -> None:
    """Each error that botocore's models list for our calls has a row, so a new one has to be considered."""
    model = botocore.session.get_session().get_service_model(service)
    modelled = {shape.name for call in CALLS[service].split() for shape in model.operation_model(call).error_shapes}
    assert modelled
    assert modelled - CODES.keys() == set()


@pytest.mark.parametrize(
    ("error", "code"), [(error, code) for error, codes in R2_CODES.items() for code in codes.split()]
)
def test_every_documented_r2_error_is_mapped(error: type[HoldfastError], code: str) -> None:
    """Each code in R2's documentation has a row of its own, with this meaning."""
    assert code in CODES
    assert type(map_error(client_error(code, 400), "put k", S3)) is error


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (500, RetryableError),
        (502, RetryableError),
        (503, RetryableError),
        (599, RetryableError),
        (429, RetryableError),
        (408, RetryableError),
        (409, RetryableError),
        (412, VersionConflictError),
        (401, ConfigError),
        (403, ConfigError),
        (301, ConfigError),
        (400, PermanentError),
        (404, PermanentError),
        (422, PermanentError),
        (501, PermanentError),
    ],
)
def test_an_unknown_code_is_mapped_by_its_status(status: int, error: type[HoldfastError]) -> None:
    """An unknown code is mapped by its HTTP status, and appears in the message."""
    ours = map_error(client_error("BrandNew", status), "put k", S3)
    assert type(ours) is error
    assert "put k: BrandNew: two lines;" in str(ours)


def test_network_errors_are_retryable() -> None:
    """Every class of botocore's network errors is retryable."""
    kinds: list[type[Exception]] = [ResponseParserError]
    for root in (vendor.HTTPClientError, vendor.ConnectionError):
        kinds += [root, *root.__subclasses__()]
    for kind in kinds:
        error = kind.__new__(kind)
        Exception.__init__(error, "trouble")
        assert categorize(error) is ErrorCategory.TRANSIENT, kind


def test_messages_name_the_settings_of_the_service() -> None:
    """The message names the settings to check."""
    assert "AWS_ID and AWS_KEY" in str(map_error(client_error("InvalidClientTokenId", 403), "receive", SQS))
    assert "QUEUE_URL" in str(map_error(client_error("AWS.SimpleQueueService.NonExistentQueue", 400), "receive", SQS))
    assert "CLOUDFLARE_ID and CLOUDFLARE_KEY" in str(map_error(client_error("InvalidAccessKeyId", 403), "get k", S3))
    assert "BUCKET" in str(map_error(client_error("NoSuchBucket", 404), "get k", S3))


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (DROP, RetryableError),
        (s3_error(429, "TooManyRequests"), RetryableError),
        (s3_error(500, "InternalError"), RetryableError),
        (s3_error(503, "SlowDown"), RetryableError),
        (Reply(502, b"<html>a proxy's page</html>"), RetryableError),
        (s3_error(409, "ConditionalRequestConflict"), RetryableError),
        (s3_error(412, "PreconditionFailed"), VersionConflictError),
        (s3_error(404, "NoSuchKey"), VersionConflictError),
        (s3_error(404, "NoSuchBucket"), ConfigError),
        (s3_error(403, "SignatureDoesNotMatch"), ConfigError),
        (s3_error(403, "AccessDenied"), ConfigError),
        (s3_error(501, "NotImplemented"), PermanentError),
    ],
)
def test_a_conditional_put_is_sent_once(client: Any, stub: Stub, reply: Reply, error: type[HoldfastError]) -> None:
    """A control client sends a conditional put once: a second put would conflict with the first one's success."""
    stub.script(reply)
    with pytest.raises(error), mapped_errors("put k", S3):
        client(S3, CONTROL, stub.url).put_object(Bucket="b", Key="k", Body=b"x", IfMatch='"v"')
    assert [request.headers["if-match"] for request in stub.requests] == ['"v"']


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (DROP, RetryableError),
        (sqs_error(400, "RequestThrottled"), RetryableError),
        (sqs_error(503, "ServiceUnavailable"), RetryableError),
        (sqs_error(400, "AWS.SimpleQueueService.NonExistentQueue"), ConfigError),
        (sqs_error(403, "InvalidClientTokenId"), ConfigError),
        (sqs_error(403, "AccessDeniedException"), ConfigError),
        (sqs_error(400, "UnrecognizedClientException"), ConfigError),
        (sqs_error(400, "UnsupportedOperation"), PermanentError),
    ],
)
def test_a_queue_call_is_sent_once(client: Any, stub: Stub, reply: Reply, error: type[HoldfastError]) -> None:
    """A control client sends each queue call once: `adapters.retrier` retries, not botocore."""
    stub.script(reply)
    with pytest.raises(error), mapped_errors("receive", SQS):
        client(SQS, CONTROL, stub.url, "us-east-1").receive_message(QueueUrl=f"{stub.url}/1/q")
    assert len(stub.requests) == 1


def test_a_server_that_never_answers_costs_one_time_limit(client: Any, stub: Stub) -> None:
    """A server that accepts a request and never answers costs one time limit, and is retryable."""
    stub.script(HANG)
    with pytest.raises(RetryableError, match="CLOUDFLARE_URL"), mapped_errors("get k", S3):
        client(S3, HASTY, stub.url).get_object(Bucket="b", Key="k")
    assert len(stub.requests) == 1


def test_a_refused_connection_is_retryable(client: Any, stub: Stub) -> None:
    """A refused connection is retryable, and the message names the settings to check if it lasts."""
    stub.close()
    with pytest.raises(RetryableError, match="if it lasts, check BUCKET, CLOUDFLARE_URL"), mapped_errors("get k", S3):
        client(S3, CONTROL, stub.url).get_object(Bucket="b", Key="k")
