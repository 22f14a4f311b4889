"""Assemble an object from ranges of other objects, copied within the store, and bytes sent from here.

Uses S3's multipart upload. R2 aborts one that was neither completed nor aborted after seven days:
https://developers.cloudflare.com/r2/objects/multipart-objects/
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from adapters.aws.error_mapping import S3, http_status, mapped_errors
from adapters.retrier import PART, Retrier, retried
from lifecycle.errors import HoldfastError
from lifecycle.ports.store import Range
from lifecycle.structured_log import StructuredLogger

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

NOT_FOUND: Final = 404

log = StructuredLogger("holdfast.r2")


class Assembly:
    """One multipart upload.

    Args:
        client: Client for large requests.
        bucket: The bucket's name.
        key: Key of the object to write.
        is_absent: Return True if the store says that there is no such key.
        retry: Retries each request of the upload.
    """

    def __init__(
        self, client: "S3Client", *, bucket: str, key: str, is_absent: Callable[[str], bool], retry: Retrier
    ) -> None:
        self.retry = retry
        self._client = client
        self._bucket = bucket
        self._key = key
        self._is_absent = is_absent
        self._upload: Any = {"Bucket": bucket, "Key": key, "UploadId": self._create()}

    def run(self, parts: Sequence[Range | Callable[[], bytes]]) -> bool:
        """Write the object; return False, with nothing written, if the source of a part is absent."""
        is_complete = False
        try:
            uploaded = [self._part(number, part) for number, part in enumerate(parts, 1)]
            if None not in uploaded:
                is_complete = self._complete(uploaded)
        finally:
            if not is_complete:
                self._abort()
        return is_complete

    @retried(PART)
    def _create(self) -> str:
        with mapped_errors(f"assemble {self._key}", S3):
            return self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key)["UploadId"]

    def _part(self, number: int, part: Range | Callable[[], bytes]) -> Any:
        """Send or copy one part and return its entry; None if the source of a copy is absent."""
        if isinstance(part, Range):
            return self._copy(number, part)
        return self._send(number, part())

    @retried(PART)
    def _send(self, number: int, content: bytes) -> Any:
        with mapped_errors(f"upload part {number} of {self._key}", S3):
            etag = self._client.upload_part(**self._upload, PartNumber=number, Body=content)["ETag"]
        return {"PartNumber": number, "ETag": etag}

    @retried(PART)
    def _copy(self, number: int, source: Range) -> Any:
        where: Any = {
            "CopySource": {"Bucket": self._bucket, "Key": source.key},
            "CopySourceRange": f"bytes={source.offset}-{source.offset + source.length - 1}",
        }
        with mapped_errors(f"copy {source} to {self._key}", S3):
            try:
                copied = self._client.upload_part_copy(**self._upload, PartNumber=number, **where)
            except ClientError as error:
                # A copy's 404 may also mean the upload or the bucket, so the source itself is asked for.
                if http_status(error) == NOT_FOUND and self._is_absent(source.key):
                    return None
                raise
            return {"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]}

    @retried(PART)
    def _complete(self, uploaded: Sequence[Any]) -> bool:
        with mapped_errors(f"assemble {self._key}", S3):
            # Status 200 may be sent before the work is done; only the ETag at the end proves success.
            completed = self._client.complete_multipart_upload(**self._upload, MultipartUpload={"Parts": uploaded})
            return bool(completed["ETag"])

    @retried(PART)
    def _remove(self) -> None:
        with mapped_errors(f"abort the upload of {self._key}", S3):
            self._client.abort_multipart_upload(**self._upload)

    def _abort(self) -> None:
        try:
            self._remove()
        except HoldfastError as error:
            log.info("upload.not_aborted", key=self._key, error=str(error))
