"""Map errors of botocore, boto3, s3transfer and urllib3 to Holdfast's own: by code, then HTTP status, then class.

The codes come from botocore's service models and from the R2 documentation:
https://developers.cloudflare.com/r2/api/error-codes/
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

MAX_DETAIL_CHARS: Final = 300  # of a vendor's message; some services return whole pages
_QUERY_PREFIX: Final = "AWS.SimpleQueueService."


@frozen(kw_only=True)
class Service:
    """A service and the settings that configure it, as error messages name them.

    Attributes:
        name: botocore's name of the service.
        credential_settings: Settings that hold the credentials.
        location_settings: Settings that say where the queue or bucket is.
    """

    name: str
    credential_settings: str
    location_settings: str


SQS: Final = Service(
    name="sqs",
    credential_settings="AWS_ID and AWS_KEY, or AWS_CREDENTIALS_…",
    location_settings="QUEUE_URL",
)
S3: Final = Service(
    name="s3",
    credential_settings="CLOUDFLARE_ID and CLOUDFLARE_KEY, or CLOUDFLARE_CREDENTIALS_…",
    location_settings="BUCKET, CLOUDFLARE_URL and CLOUDFLARE_REGION",
)


class ErrorCategory(Enum):
    """A class of vendor errors, with the advice that ends the message; `{…}` stands for the service's settings."""

    TRANSIENT = "if it lasts, check {location_settings}"
    CONDITION_FAILED = "read it again"
    BAD_CREDENTIALS = "check {credential_settings}"
    ACCESS_DENIED = "check {credential_settings} and what that key is allowed, and {location_settings}"
    WRONG_LOCATION = "check {location_settings}"
    CLOCK_SKEW = "correct this machine's clock"
    PERMANENT = "calling again will not help"


def _codes(category: ErrorCategory, codes: str) -> dict[str, ErrorCategory]:
    return dict.fromkeys(codes.split(), category)


CODES: Final[Mapping[str, ErrorCategory]] = {
    **_codes(
        ErrorCategory.TRANSIENT,
        "RequestThrottled RequestThrottledException Throttling ThrottlingException ThrottledException TooManyRequests "
        "TooManyRequestsException RequestLimitExceeded SlowDown BandwidthLimitExceeded KmsThrottled "
        "KMS.ThrottlingException OverLimit PurgeQueueInProgress QueueDeletedRecently "
        "InternalError InternalFailure InternalServerError InternalServiceError ServiceUnavailable "
        "ServiceUnavailableException RequestTimeout RequestTimeoutException ClientDisconnect IncompleteBody BadDigest "
        "XAmzContentSHA256Mismatch OperationAborted ConditionalRequestConflict NoSuchUpload InvalidPart",
    ),
    **_codes(ErrorCategory.CONDITION_FAILED, "PreconditionFailed NoSuchKey"),
    **_codes(
        ErrorCategory.BAD_CREDENTIALS,
        "InvalidAccessKeyId InvalidClientTokenId SignatureDoesNotMatch InvalidSignatureException ExpiredToken "
        "ExpiredTokenException InvalidToken UnrecognizedClientException UnrecognizedClient MissingAuthenticationToken "
        "MissingAuthenticationTokenException IncompleteSignature IncompleteSignatureException MissingSecurityHeader "
        "TokenRefreshRequired Unauthorized AuthFailure NotSignedUp OptInRequired AccountProblem "
        "NotEntitled",
    ),
    **_codes(
        ErrorCategory.ACCESS_DENIED,
        "AccessDenied AccessDeniedException AllAccessDisabled NotAuthorized UnauthorizedAccess Forbidden "
        "ObjectLockedByBucketPolicy InvalidObjectState ObjectNotInActiveTierError "
        "KmsAccessDenied KmsDisabled KmsInvalidKeyUsage KmsInvalidState KmsNotFound KmsOptInRequired",
    ),
    **_codes(
        ErrorCategory.WRONG_LOCATION,
        "NonExistentQueue QueueDoesNotExist InvalidAddress InvalidSecurity NoSuchBucket InvalidBucketName "
        "PermanentRedirect TemporaryRedirect Redirect AuthorizationHeaderMalformed IllegalLocationConstraintException",
    ),
    **_codes(ErrorCategory.CLOCK_SKEW, "RequestTimeTooSkewed RequestExpired ExpiredRequest"),
    **_codes(
        ErrorCategory.PERMANENT,
        "NotImplemented UnsupportedOperation MethodNotAllowed InvalidRequest InvalidArgument InvalidParameterValue "
        "InvalidAttributeName InvalidAttributeValue InvalidMessageContents InvalidIdFormat InvalidBatchEntryId "
        "BatchEntryIdsNotDistinct BatchRequestTooLong EmptyBatchRequest TooManyEntriesInBatchRequest "
        "MessageNotInflight ReceiptHandleIsInvalid MissingParameter ValidationError "
        "InvalidRange InvalidDigest InvalidPartOrder EntityTooLarge EntityTooSmall MetadataTooLarge KeyTooLongError "
        "InvalidObjectName InvalidURI MalformedXML MissingContentLength MissingContentMD5 BucketNotEmpty "
        "TooManyBuckets BucketConflict InvalidWriteOffset TooManyParts EncryptionTypeMismatch",
    ),
}
"""Category of each vendor code; SQS's old prefix `AWS.SimpleQueueService.` is removed before the lookup."""

_STATUSES: Final[Mapping[int, ErrorCategory]] = {
    301: ErrorCategory.WRONG_LOCATION,
    307: ErrorCategory.WRONG_LOCATION,
    308: ErrorCategory.WRONG_LOCATION,
    401: ErrorCategory.BAD_CREDENTIALS,
    403: ErrorCategory.ACCESS_DENIED,
    408: ErrorCategory.TRANSIENT,
    409: ErrorCategory.TRANSIENT,
    412: ErrorCategory.CONDITION_FAILED,
    429: ErrorCategory.TRANSIENT,
    501: ErrorCategory.PERMANENT,
}

_CLASSES: Final[tuple[tuple[type[Exception], ErrorCategory], ...]] = (
    (HTTPClientError, ErrorCategory.TRANSIENT),
    (ConnectionError, ErrorCategory.TRANSIENT),
    (IncompleteReadError, ErrorCategory.TRANSIENT),
    (ResponseParserError, ErrorCategory.TRANSIENT),  # a proxy's error page instead of a response
    (HTTPError, ErrorCategory.TRANSIENT),  # urllib3's, while a body is read
    (S3CopyFailedError, ErrorCategory.TRANSIENT),
    (CredentialRetrievalError, ErrorCategory.TRANSIENT),
    (NoCredentialsError, ErrorCategory.BAD_CREDENTIALS),
    (PartialCredentialsError, ErrorCategory.BAD_CREDENTIALS),
    (ProfileNotFound, ErrorCategory.BAD_CREDENTIALS),
    (BaseEndpointResolverError, ErrorCategory.WRONG_LOCATION),
    (EndpointProviderError, ErrorCategory.WRONG_LOCATION),
    (InvalidRegionError, ErrorCategory.WRONG_LOCATION),
)

_ERRORS: Final[Mapping[ErrorCategory, type[HoldfastError]]] = {
    ErrorCategory.TRANSIENT: RetryableError,
    ErrorCategory.CONDITION_FAILED: VersionConflictError,
    ErrorCategory.BAD_CREDENTIALS: ConfigError,
    ErrorCategory.ACCESS_DENIED: ConfigError,
    ErrorCategory.WRONG_LOCATION: ConfigError,
    ErrorCategory.CLOCK_SKEW: ConfigError,
    ErrorCategory.PERMANENT: PermanentError,
}


def error_code(error: ClientError) -> str:
    """Return the vendor's code as in `CODES`; for a HEAD, whose answer has no body, the HTTP status in digits."""
    return str(error.response.get("Error", {}).get("Code", "")).removeprefix(_QUERY_PREFIX)


def http_status(error: ClientError) -> int:
    """Return the HTTP status; 0 if there is none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def categorize(error: Exception) -> ErrorCategory:
    """Return the category of a vendor error: by its code, else by its HTTP status, else by its class."""
    if isinstance(error, ClientError):
        code, status = error_code(error), http_status(error)
        # Without a code, the response is a proxy's or was truncated: not even a 404 proves anything then.
        has_code = bool(code) and not code.isdigit()
        default = ErrorCategory.PERMANENT if has_code and status in range(300, 500) else ErrorCategory.TRANSIENT
        return CODES.get(code) or _STATUSES.get(status, default)
    return next((category for kind, category in _CLASSES if isinstance(error, kind)), ErrorCategory.PERMANENT)


def map_error(error: Exception, operation: str, service: Service) -> HoldfastError:
    """Return Holdfast's error for the vendor's *error* during *operation*, with one line that ends with advice."""
    if isinstance(error, Boto3Error) and isinstance(error.__context__, ClientError):
        error = error.__context__  # upload_file wraps the cause
    category = categorize(error)
    detail = str(error)
    if isinstance(error, ClientError):
        detail = f"{error_code(error) or http_status(error)}: {error.response.get('Error', {}).get('Message', '')}"
    detail = " ".join(detail.split())[:MAX_DETAIL_CHARS].rstrip(" :.")
    advice = category.value.format(
        credential_settings=service.credential_settings, location_settings=service.location_settings
    )
    return _ERRORS[category](f"{operation}: {detail}; {advice}")


@contextmanager
def mapped_errors(operation: str, service: Service) -> Iterator[None]:
    """Map every vendor error raised inside to one of Holdfast's, and a field missing from a response too.

    Args:
        operation: Operation and its key or queue, for the message.
        service: The service whose settings the message names.

    Raises:
        RetryableError: The service is unreachable, throttled or failing, or its response is incomplete.
        ConfigError: A credential, the queue, the bucket or the endpoint is wrong.
        VersionConflictError: A condition did not hold.
        PermanentError: The service refuses the request itself.
    """
    try:
        yield
    except KeyError as error:
        # http.client takes a connection that breaks among the headers for their end: status 200, and no fields.
        raise RetryableError(f"{operation}: the response has no {error}; it was truncated") from error
    except (ClientError, BotoCoreError, Boto3Error, ResponseParserError, HTTPError, S3CopyFailedError) as error:
        raise map_error(error, operation, service) from error
