"""What a queue message may say, and how it becomes a job.

Three bodies are understood:

- an announcement, which our client sends: `{"holdfast": 1, "job": "md-7", "dispatch": 1}`; the record holds the rest;
- a whole job, for whoever can send to the queue but has no client: `{"job": "md-7", "workload": "relax",
  "params": {…}}`; its record is made by the worker that first receives it;
- a message of the demo that Holdfast grows from: `{"bucket": "b", "folder": "runs/job0", "parameters": {…}}`.

Each may be signed, and has to be where there is a key: `lifecycle.record.signing`.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from lifecycle.errors import InvalidRecordError, RejectedMessageError
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import JobKeys, KeyLayout, is_job_id
from lifecycle.ports.queue import Message
from lifecycle.record.codec import expect_room
from lifecycle.record.signing import UNSIGNED, Signer, check_destination

VERSION: Final = 1
MAX_BYTES: Final = 256 << 10
SERIES_SUM: Final = "series-sum"


@frozen
class JobMessage:
    """A queue message, understood.

    Attributes:
        keys: The job that it is about, and where that lies.
        sequence: The announcement's number; 0 for a message that has none.
        draft: The record to start from if there is none; None if the message does not hold a whole job.
    """

    keys: JobKeys
    sequence: int = 0
    draft: JobRecord | None = field(default=None)

    def new_record(self) -> JobRecord:
        """Return the record to start from.

        Raises:
            ValueError: The message does not hold a whole job.
        """
        if self.draft is None:
            raise ValueError(f"the message for {self.keys.job} does not hold a whole job")
        return self.draft


def announce(record: JobRecord, dispatch: int) -> Message:
    """The message that calls for a worker for *record*'s job; *dispatch* numbers it."""
    body = json.dumps({"holdfast": VERSION, "job": record.job, "dispatch": dispatch})
    return Message(body=body, job=record.job, dedup=_dedup(record.job, record, dispatch))


def reannounce(keys: JobKeys, record: JobRecord, dispatch: int, *, bucket: str) -> Message:
    """The same, for a job that was announced before: a job of the demo keeps its kind of message, and so its prefix."""
    if not record.demo:
        return announce(record, dispatch)
    folder = keys.folder.rstrip("/")  # its prefix is its own, and so another's id may be the same
    body = {"bucket": bucket, "folder": folder, "parameters": dict(record.params), "dispatch": dispatch}
    return Message(body=json.dumps(body), job=record.job, dedup=_dedup(folder, record, dispatch))


def _dedup(whose: str, record: JobRecord, dispatch: int) -> str:
    """An announcement's own id: a FIFO queue swallows one for minutes, and a job may be purged and submitted again."""
    announcement = f"{whose}:{record.timestamps.submitted}:{record.epoch}:{dispatch}"
    return hashlib.sha256(announcement.encode()).hexdigest()


def parse_message(body: str, *, layout: KeyLayout, bucket: str, signer: Signer = UNSIGNED) -> JobMessage:
    """Understand a message.

    Args:
        body: As received.
        layout: Where this worker's jobs lie, for messages that do not say.
        bucket: The bucket that this worker serves; empty when it has none (the embedded default).
        signer: Whose signature it must have.

    Raises:
        RejectedMessageError: The body is not a job, or not signed as it must be; the message says why in a line.
    """
    if len(body) > MAX_BYTES:
        raise RejectedMessageError(f"the body has {len(body)} characters, more than {MAX_BYTES}")
    raw = _json_object(body)
    signed = signer.verify(raw)
    if signed is not None:
        raw = _json_object(signed)
    if "folder" in raw:
        return _demo(raw, bucket)
    if signed is not None:
        check_destination(raw, bucket=bucket, prefix=layout.prefix)
    version = raw.get("holdfast", VERSION)
    if version != VERSION:
        raise RejectedMessageError(f"the message has version {version!r:.40}; this worker reads {VERSION}")
    job = _job_id(raw.get("job"))
    message = JobMessage(layout.job(job), _dispatch(raw))
    if "workload" not in raw:
        return message
    workload, params = raw["workload"], raw.get("params", {})
    if not isinstance(workload, str) or not workload:
        raise RejectedMessageError("`workload` is not a name")
    draft = JobRecord(job=job, workload=workload, params=_object(params, "params"))
    return JobMessage(message.keys, message.sequence, _with_room(draft))


def _json_object(text: str) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RejectedMessageError(f"the body is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise RejectedMessageError("the body is not a JSON object")
    return raw


def _demo(raw: Mapping[str, Any], bucket: str) -> JobMessage:
    named, folder = raw.get("bucket"), raw.get("folder")
    if not isinstance(folder, str) or not isinstance(named, str):
        raise RejectedMessageError("`bucket` and `folder` must both be text")
    if bucket and named != bucket:
        raise RejectedMessageError(f"the message names bucket {named!r:.80}; this worker serves {bucket!r}")
    prefix, _, last = folder.strip("/").rpartition("/")
    parts = prefix.split("/") if prefix else []
    if not folder.isascii() or any(part in {"", ".", "..", ".holdfast"} for part in parts):
        raise RejectedMessageError(f"`folder` {folder!r:.80} is not a plain ASCII path")
    job = _job_id(last)
    params = _object(raw.get("parameters", {}), "parameters")
    draft = JobRecord(job=job, workload=SERIES_SUM, params=params, demo=True)
    return JobMessage(KeyLayout(prefix).job(job), _dispatch(raw), _with_room(draft))


def _with_room(draft: JobRecord) -> JobRecord:
    try:
        expect_room(draft)
    except InvalidRecordError as error:
        raise RejectedMessageError(str(error)) from error
    return draft


def _job_id(value: object) -> str:
    if not isinstance(value, str) or not is_job_id(value):
        raise RejectedMessageError(
            f"{value!r:.80} is not a job id: a letter or digit, then up to 127 of letters, digits, `.`, `_`, `-`"
        )
    return value


def _dispatch(raw: Mapping[str, Any]) -> int:
    number = raw.get("dispatch", 0)
    if type(number) is not int or number < 0:
        raise RejectedMessageError(f"`dispatch` {number!r:.40} is not a number from 0 on")
    return number


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RejectedMessageError(f"`{name}` is not a JSON object")
    return value
