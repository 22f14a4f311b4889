"""What a vendor's error means to us: a table by code, by HTTP status and by class, and the one way to apply it.

Sources of the codes: botocore's service models, and the page "Error codes" of Cloudflare's R2 documentation.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Final

from attrs import frozen
from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BaseEndpointResolverError,
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's name for it
    CredentialRetrievalError,
    EndpointProviderError,
    HTTPClientError,
    IncompleteReadError,
    InvalidRegionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError
from s3transfer.exceptions import S3CopyFailedError
from urllib3.exceptions import HTTPError

from lifecycle.errors import ConfigError, HoldfastError, PermanentError, RetryableError, VersionConflictError

LONGEST_MESSAGE: Final = 300  # characters that a vendor's message may add to ours
_QUERY_PREFIX: Final = "AWS.SimpleQueueService."


@frozen(kw_only=True)
class Service:
    """One service, as error messages name it and its settings."""

    name: str
    keys: str
    place: str


SQS: Final = Service(name="sqs", keys="AWS_ID and AWS_KEY, or AWS_CREDENTIALS_…", place="QUEUE_URL")
S3: Final = Service(
    name="s3",
    keys="CLOUDFLARE_ID and CLOUDFLARE_KEY, or CLOUDFLARE_CREDENTIALS_…",
    place="BUCKET, CLOUDFLARE_URL and CLOUDFLARE_REGION",
)


class Remedy(Enum):
    """What to do about a vendor's error; `{keys}` and `{place}` stand for the service's settings."""

    RETRY = "if it lasts, check {place}"
    READ_BACK = "read it again"
    CHECK_KEYS = "check {keys}"
    ALLOW = "check {keys} and what that key is allowed, and {place}"
    CHECK_PLACE = "check {place}"
    SET_CLOCK = "set this machine's clock right"
    GIVE_UP = "calling again will not help"


def _each(remedy: Remedy, codes: str) -> dict[str, Remedy]:
    return dict.fromkeys(codes.split(), remedy)


CODES: Final[Mapping[str, Remedy]] = {
    **_each(
        Remedy.RETRY,
        "RequestThrottled RequestThrottledException Throttling ThrottlingException ThrottledException TooManyRequests "
        "TooManyRequestsException RequestLimitExceeded SlowDown BandwidthLimitExceeded KmsThrottled "
        "KMS.ThrottlingException OverLimit PurgeQueueInProgress QueueDeletedRecently "
        "InternalError InternalFailure InternalServerError InternalServiceError ServiceUnavailable "
        "ServiceUnavailableException RequestTimeout RequestTimeoutException ClientDisconnect IncompleteBody BadDigest "
        "XAmzContentSHA256Mismatch OperationAborted ConditionalRequestConflict NoSuchUpload InvalidPart",
    ),
    **_each(Remedy.READ_BACK, "PreconditionFailed NoSuchKey"),
    **_each(
        Remedy.CHECK_KEYS,
        "InvalidAccessKeyId InvalidClientTokenId SignatureDoesNotMatch InvalidSignatureException ExpiredToken "
        "ExpiredTokenException InvalidToken UnrecognizedClientException UnrecognizedClient MissingAuthenticationToken "
        "MissingAuthenticationTokenException IncompleteSignature IncompleteSignatureException MissingSecurityHeader "
        "TokenRefreshRequired Unauthorized AuthFailure NotSignedUp OptInRequired AccountProblem "
        "NotEntitled",
    ),
    **_each(
        Remedy.ALLOW,
        "AccessDenied AccessDeniedException AllAccessDisabled NotAuthorized UnauthorizedAccess Forbidden "
        "ObjectLockedByBucketPolicy InvalidObjectState ObjectNotInActiveTierError "
        "KmsAccessDenied KmsDisabled KmsInvalidKeyUsage KmsInvalidState KmsNotFound KmsOptInRequired",
    ),
    **_each(
        Remedy.CHECK_PLACE,
        "NonExistentQueue QueueDoesNotExist InvalidAddress InvalidSecurity NoSuchBucket InvalidBucketName "
        "PermanentRedirect TemporaryRedirect Redirect AuthorizationHeaderMalformed IllegalLocationConstraintException",
    ),
    **_each(Remedy.SET_CLOCK, "RequestTimeTooSkewed RequestExpired ExpiredRequest"),
    **_each(
        Remedy.GIVE_UP,
        "NotImplemented UnsupportedOperation MethodNotAllowed InvalidRequest InvalidArgument InvalidParameterValue "
        "InvalidAttributeName InvalidAttributeValue InvalidMessageContents InvalidIdFormat InvalidBatchEntryId "
        "BatchEntryIdsNotDistinct BatchRequestTooLong EmptyBatchRequest TooManyEntriesInBatchRequest "
        "MessageNotInflight ReceiptHandleIsInvalid MissingParameter ValidationError "
        "InvalidRange InvalidDigest InvalidPartOrder EntityTooLarge EntityTooSmall MetadataTooLarge KeyTooLongError "
        "InvalidObjectName InvalidURI MalformedXML MissingContentLength MissingContentMD5 BucketNotEmpty "
        "TooManyBuckets BucketConflict InvalidWriteOffset TooManyParts EncryptionTypeMismatch",
    ),
}
"""By the vendor's code, with SQS's old prefix taken off."""

_STATUSES: Final[Mapping[int, Remedy]] = {
    301: Remedy.CHECK_PLACE,
    307: Remedy.CHECK_PLACE,
    308: Remedy.CHECK_PLACE,
    401: Remedy.CHECK_KEYS,
    403: Remedy.ALLOW,
    408: Remedy.RETRY,
    409: Remedy.RETRY,
    412: Remedy.READ_BACK,
    429: Remedy.RETRY,
    501: Remedy.GIVE_UP,
}

_CLASSES: Final[tuple[tuple[type[Exception], Remedy], ...]] = (
    (HTTPClientError, Remedy.RETRY),
    (ConnectionError, Remedy.RETRY),
    (IncompleteReadError, Remedy.RETRY),
    (ResponseParserError, Remedy.RETRY),  # a proxy's page in place of an answer
    (HTTPError, Remedy.RETRY),  # urllib3's, while a body is read
    (S3CopyFailedError, Remedy.RETRY),
    (CredentialRetrievalError, Remedy.RETRY),
    (NoCredentialsError, Remedy.CHECK_KEYS),
    (PartialCredentialsError, Remedy.CHECK_KEYS),
    (ProfileNotFound, Remedy.CHECK_KEYS),
    (BaseEndpointResolverError, Remedy.CHECK_PLACE),
    (EndpointProviderError, Remedy.CHECK_PLACE),
    (InvalidRegionError, Remedy.CHECK_PLACE),
)

_ERRORS: Final[Mapping[Remedy, type[HoldfastError]]] = {
    Remedy.RETRY: RetryableError,
    Remedy.READ_BACK: VersionConflictError,
    Remedy.CHECK_KEYS: ConfigError,
    Remedy.ALLOW: ConfigError,
    Remedy.CHECK_PLACE: ConfigError,
    Remedy.SET_CLOCK: ConfigError,
    Remedy.GIVE_UP: PermanentError,
}


def code_of(error: ClientError) -> str:
    """The vendor's code, as `CODES` has it; for a HEAD, which has no body, the HTTP status in digits."""
    return str(error.response.get("Error", {}).get("Code", "")).removeprefix(_QUERY_PREFIX)


def status_of(error: ClientError) -> int:
    """The HTTP status; 0 if there is none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def remedy_of(error: Exception) -> Remedy:
    """What to do about a vendor's error: by its code, else by its status, else by its class."""
    if isinstance(error, ClientError):
        code, status = code_of(error), status_of(error)
        is_named = bool(code) and not code.isdigit()  # no name: a proxy's answer, or one that was cut short
        otherwise = Remedy.GIVE_UP if is_named and status in range(300, 500) else Remedy.RETRY
        return CODES.get(code) or _STATUSES.get(status, otherwise)
    return next((remedy for kind, remedy in _CLASSES if isinstance(error, kind)), Remedy.GIVE_UP)


def translated(error: Exception, what: str, service: Service) -> HoldfastError:
    """Our error for the vendor's *error*, met while doing *what*; one line that ends with the remedy."""
    if isinstance(error, Boto3Error) and isinstance(error.__context__, ClientError):
        error = error.__context__  # upload_file wraps what it met
    remedy = remedy_of(error)
    said = str(error)
    if isinstance(error, ClientError):
        said = f"{code_of(error) or status_of(error)}: {error.response.get('Error', {}).get('Message', '')}"
    said = " ".join(said.split())[:LONGEST_MESSAGE].rstrip(" :.")
    advice = remedy.value.format(keys=service.keys, place=service.place)
    return _ERRORS[remedy](f"{what}: {said}; {advice}")


@contextmanager
def translating(what: str, service: Service) -> Iterator[None]:
    """Turn every vendor error met inside into one of ours, and an answer that lacks what it must have.

    Args:
        what: What is being done, to which key or queue, for the message.
        service: Whose settings the message names.

    Raises:
        RetryableError: Unreachable, throttled or failing, or half an answer.
        ConfigError: A credential, the queue, the bucket or the endpoint is wrong.
        VersionConflictError: A condition did not hold.
        PermanentError: The service refuses the request as such.
    """
    try:
        yield
    except KeyError as error:
        # A connection that breaks among the headers looks to http.client like their end: 200, and nothing in it.
        raise RetryableError(f"{what}: the answer has no {error}; it was cut short") from error
    except (ClientError, BotoCoreError, Boto3Error, ResponseParserError, HTTPError, S3CopyFailedError) as error:
        raise translated(error, what, service) from error
