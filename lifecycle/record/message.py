"""Queue messages: creating them, and parsing what arrives.

A worker understands three kinds of body:

- an announcement, which the client sends: `{"holdfast": 1, "job": "a", "dispatch": 1, "bucket": "b", "prefix": "p"}`.
  The record holds the rest. Earlier versions named neither bucket nor prefix.
- a whole job, for senders without the client: `{"job": "md-7", "workload": "relax", "params": {…}}`. The worker that
  receives it first creates the record.
- a message of the SaladCloud demo (https://github.com/SaladTechnologies/mds):
  `{"bucket": "b", "folder": "runs/job0", "parameters": {…}}`. If the parameters would make a continuation too large, it
  has `"holdfast": 1` instead, and the record holds them.

Each of them may be signed, and must be if a key is configured: `lifecycle.record.signing`.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve, field, frozen

from lifecycle.bounds import is_bounded
from lifecycle.errors import ForeignMessageError, InvalidRecordError, RejectedMessageError
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import JobKeys, KeyLayout, is_job_id
from lifecycle.ports.queue import Message
from lifecycle.record.codec import expect_room
from lifecycle.record.signing import DESTINATION, UNSIGNED, Signer, check_destination

VERSION: Final = 1
MAX_CHARACTERS: Final = 256 << 10
BUCKET_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # of S3 and R2
MAX_CONTINUATION: Final = MAX_CHARACTERS - (1 << 10)  # a signature adds a little
SERIES_SUM: Final = "series-sum"


@frozen
class JobMessage:
    """A parsed queue message.

    Attributes:
        keys: Keys of the job that it is about.
        sequence: Message sequence number; 0 for a message without one.
        draft: Record to start from if the job has none; None if the message does not contain a whole job.
        is_addressed: Whether the message names its bucket and prefix.
    """

    keys: JobKeys
    sequence: int = 0
    draft: JobRecord | None = field(default=None)
    is_addressed: bool = field(default=False, eq=False)

    def new_record(self) -> JobRecord:
        """Return the record to start from.

        Raises:
            ValueError: The message does not hold a whole job.
        """
        if self.draft is None:
            raise ValueError(f"the message for {self.keys.job} does not hold a whole job")
        return self.draft


def announce(record: JobRecord, dispatch: int, *, bucket: str | None = None, prefix: str | None = None) -> Message:
    """Return the message that announces the job of *record*.

    Args:
        record: The job's record.
        dispatch: The message sequence number.
        bucket: Name of the job's bucket. Without it and *prefix*, the message is as earlier versions sent it.
        prefix: The job's prefix.
    """
    destination = {} if bucket is None or prefix is None else dict(zip(DESTINATION, (bucket, prefix), strict=True))
    body = json.dumps({"holdfast": VERSION, "job": record.job, "dispatch": dispatch, **destination})
    return Message(body=body, job=record.job, dedup=_dedup(record.job, record, dispatch))


def reannounce(keys: JobKeys, record: JobRecord, dispatch: int, *, bucket: str) -> Message:
    """Return the message that announces a job again.

    A job of the SaladCloud demo keeps the demo's kind of message, because that carries the job's prefix, which may
    differ from the worker's. It leaves out parameters that would make it larger than a worker accepts: the record has
    them.

    Args:
        keys: Keys of the job.
        record: Its record.
        dispatch: The message sequence number.
        bucket: Name of the bucket.
    """
    if not record.demo:
        return announce(record, dispatch, bucket=bucket, prefix=keys.layout.prefix)
    folder = keys.folder.rstrip("/")
    body = {"bucket": bucket, "folder": folder, "parameters": dict(record.params), "dispatch": dispatch}
    if len(json.dumps(json.dumps(body))) > MAX_CONTINUATION:  # as one string, which is how it is signed
        body = {"holdfast": VERSION, "bucket": bucket, "folder": folder, "dispatch": dispatch}
    # Two demo jobs with the same id may exist under different prefixes, so the whole folder identifies the job.
    return Message(body=json.dumps(body), job=record.job, dedup=_dedup(folder, record, dispatch))


def _dedup(job: str, record: JobRecord, dispatch: int) -> str:
    """Return the deduplication id of an announcement.

    A FIFO queue drops a second message with the same id for five minutes
    (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-messagededuplicationid-property.html).
    A job may be purged and submitted again within that time, hence the time of submission.
    """
    announcement = f"{job}:{record.timestamps.submitted}:{record.epoch}:{dispatch}"
    return hashlib.sha256(announcement.encode()).hexdigest()


def parse_message(body: str, *, layout: KeyLayout, bucket: str, signer: Signer = UNSIGNED) -> JobMessage:
    """Parse a queue message.

    Args:
        body: The message as received.
        layout: Key layout for messages that do not contain a prefix; if its prefix is not empty, the demo's messages
            must name a folder below it.
        bucket: The bucket that this worker serves; empty if it has no name (embedded use).
        signer: Verifies the signature.

    Raises:
        RejectedMessageError: The body is not a job, or not signed as required. The message is one line.
        ForeignMessageError: The job belongs to another bucket or prefix, which the message names.
    """
    if len(body) > MAX_CHARACTERS:
        raise RejectedMessageError(f"the body has {len(body)} characters, more than {MAX_CHARACTERS}")
    raw = _json_object(body)
    signed = signer.verify(raw)
    if signed is not None:
        raw = _json_object(signed)
    if "folder" in raw:
        return _parse_demo(raw, bucket, layout)
    is_addressed = signed is not None or any(name in raw for name in DESTINATION)
    if is_addressed:
        check_destination(raw, bucket=bucket, prefix=layout.prefix)
    version = raw.get("holdfast", VERSION)
    if version != VERSION:
        raise RejectedMessageError(f"the message has version {version!r:.40}; this worker reads {VERSION}")
    job = _job_id(raw.get("job"))
    message = JobMessage(layout.job(job), _dispatch(raw), is_addressed=is_addressed)
    if "workload" not in raw:
        return message
    workload, params = raw["workload"], raw.get("params", {})
    if not isinstance(workload, str) or not workload:
        raise RejectedMessageError("`workload` is not a name")
    draft = JobRecord(job=job, workload=workload, params=_object(params, "params"))
    return evolve(message, draft=_with_room(draft))


def bucket_of(body: str, signer: Signer = UNSIGNED) -> str:
    """Return the bucket that a message of the SaladCloud demo names.

    Raises:
        RejectedMessageError: It is no message of the demo, or not signed as required.
    """
    if len(body) > MAX_CHARACTERS:
        raise RejectedMessageError(f"the body has {len(body)} characters, more than {MAX_CHARACTERS}")
    raw = _json_object(body)
    signed = signer.verify(raw)
    raw = raw if signed is None else _json_object(signed)
    bucket = raw.get("bucket")
    if "folder" not in raw or not isinstance(bucket, str) or not BUCKET_NAME.fullmatch(bucket):
        raise RejectedMessageError("it names no bucket, and this worker's BUCKET is not set")
    return bucket


def _json_object(text: str) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RejectedMessageError(f"the body is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise RejectedMessageError("the body is not a JSON object")
    return raw


def _parse_demo(raw: Mapping[str, Any], bucket: str, layout: KeyLayout) -> JobMessage:
    named, folder = raw.get("bucket"), raw.get("folder")
    if not isinstance(folder, str) or not isinstance(named, str):
        raise RejectedMessageError("`bucket` and `folder` must both be text")
    if bucket and named != bucket:
        raise ForeignMessageError(f"bucket {named!r:.80} and folder {folder!r:.80}")
    prefix, _, last = folder.strip("/").rpartition("/")
    parts = prefix.split("/") if prefix else []
    # Anyone who may send a message chooses the folder, which must not lead into the area of the records.
    if not folder.isascii() or any(part in {"", ".", "..", ".holdfast"} for part in parts):
        raise RejectedMessageError(f"`folder` {folder!r:.80} is not a plain ASCII path")
    job = _job_id(last)
    if not f"{prefix}/".startswith(layout.under("")):
        raise ForeignMessageError(f"bucket {named!r:.80} and folder {folder!r:.80}")
    keys = KeyLayout(prefix).job(job)
    if "holdfast" in raw:  # a continuation that leaves out the parameters: without a record, there is nothing to run
        return JobMessage(keys, _dispatch(raw), is_addressed=True)
    params = _object(raw.get("parameters", {}), "parameters")
    draft = JobRecord(job=job, workload=SERIES_SUM, params=params, demo=True)
    return JobMessage(keys, _dispatch(raw), _with_room(draft), is_addressed=True)


def _with_room(draft: JobRecord) -> JobRecord:
    try:
        expect_room(draft)
    except InvalidRecordError as error:
        raise RejectedMessageError(str(error)) from error
    return draft


def _job_id(value: object) -> str:
    if not isinstance(value, str) or not is_job_id(value):
        raise RejectedMessageError(
            f"{value!r:.80} is not a job id: use a letter or digit, then up to 127 letters, digits, `.`, `_` or `-`"
        )
    return value


def _dispatch(raw: Mapping[str, Any]) -> int:
    number = raw.get("dispatch", 0)
    if type(number) is not int or number < 0 or not is_bounded(number):
        raise RejectedMessageError(f"`dispatch` {number!r:.40} is not a whole number from 0 to 2^53")
    return number


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RejectedMessageError(f"`{name}` is not a JSON object")
    return value
