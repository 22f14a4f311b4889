"""Queue messages: three kinds are accepted, and everything else is refused with a reason."""

import json

import pytest

from lifecycle.errors import ForeignMessageError, RejectedMessageError
from lifecycle.job_record import JobRecord, Timestamps
from lifecycle.key_layout import KeyLayout
from lifecycle.record.message import MAX_CHARACTERS, announce, bucket_of, parse_message, reannounce
from lifecycle.record.signing import UNSIGNED, Signer

LAYOUT = KeyLayout("runs")
ANYWHERE = KeyLayout("")
DEMO = {
    "parameters": {"STATE_SAVING_INTERVAL": "600.0", "STEP_RUNNING_TIME": "60.0"},
    "bucket": "transcripts",
    "folder": "demoapp2v2/job0",
}


def test_an_announcement_is_parsed() -> None:
    """The client's announcement is parsed into the job's keys and the sequence number, without a draft."""
    message = parse_message(announce(JobRecord("md-7", "relax"), 3).body, layout=LAYOUT, bucket="b")
    assert message.keys.record == "runs/.holdfast/records/md-7.json"
    assert (message.sequence, message.draft) == (3, None)


def test_a_whole_job_is_parsed_into_a_draft() -> None:
    """A message that contains a whole job is parsed into a draft of its record."""
    message = parse_message('{"job": "a", "workload": "relax", "params": {"t": 1}}', layout=LAYOUT, bucket="b")
    assert message.draft == JobRecord("a", "relax", {"t": 1})


def test_a_demo_message_is_a_series_sum_below_its_folder() -> None:
    """The demo's folder contains prefix and job id; without PREFIX, any folder is accepted."""
    message = parse_message(json.dumps(DEMO), layout=ANYWHERE, bucket="transcripts")
    assert message.keys.input_file == "demoapp2v2/job0/input.txt"
    assert message.keys.record == "demoapp2v2/.holdfast/records/job0.json"
    assert message.draft is not None
    assert (message.draft.workload, message.draft.demo) == ("series-sum", True)
    assert message.draft.params == DEMO["parameters"]


@pytest.mark.parametrize("folder", ["runs/job0", "runs/deep/job0", "/runs/job0/"])
def test_with_a_prefix_demo_messages_may_name_folders_below_it(folder: str) -> None:
    """Where PREFIX is set, the demo's messages may name any folder below it."""
    message = parse_message(json.dumps({**DEMO, "folder": folder}), layout=LAYOUT, bucket="transcripts")
    assert message.keys.record.startswith("runs/")
    assert message.keys.job == "job0"


@pytest.mark.parametrize("folder", ["job0", "demoapp2v2/job0", "runs", "runs2/job0", "other/runs/job0"])
@pytest.mark.parametrize("is_signed", [False, True])
def test_with_a_prefix_demo_messages_cannot_name_other_folders(folder: str, *, is_signed: bool) -> None:
    """Where PREFIX is set, the demo's messages are confined to it, signed or not; others belong to other workers."""
    body, signer = json.dumps({**DEMO, "folder": folder}), Signer(b"0123456789abcdef", b"")
    if is_signed:
        body = signer.sign(body, bucket="", prefix="")
    with pytest.raises(ForeignMessageError, match=f"^bucket 'transcripts' and folder '{folder}'$"):
        parse_message(body, layout=LAYOUT, bucket="transcripts", signer=signer if is_signed else UNSIGNED)


@pytest.mark.parametrize(
    "body",
    [
        '{"holdfast": 1, "job": "a", "dispatch": 1}',
        '{"job": "a", "workload": "w", "bucket": "b0b"}',
        '{"folder": "a/b"}',
        '{"bucket": 1, "folder": "a/b"}',
        '{"bucket": "", "folder": "a/b"}',
        '{"bucket": "../x", "folder": "a/b"}',
        '{"bucket": "a/b", "folder": "a/b"}',
        "[]",
        "",
    ],
)
def test_only_demo_messages_name_a_bucket(body: str) -> None:
    """A worker without a bucket takes one from the demo's messages only, and only if it is a bucket's name."""
    with pytest.raises(RejectedMessageError):
        bucket_of(body)


def test_a_signed_demo_message_names_a_bucket() -> None:
    """The bucket is the signed one; a worker with a key takes none from an unsigned message."""
    signer = Signer(b"0123456789abcdef", b"")
    assert bucket_of(json.dumps(DEMO)) == bucket_of(signer.sign(json.dumps(DEMO), bucket="x", prefix="y"), signer)
    with pytest.raises(RejectedMessageError):
        bucket_of(json.dumps(DEMO), signer)


def test_a_demo_job_is_announced_again_as_a_demo_message() -> None:
    """A demo job that is announced again keeps its record, and its message gets a sequence number."""
    message = parse_message(json.dumps(DEMO), layout=ANYWHERE, bucket="transcripts")
    assert message.draft is not None
    again = parse_message(
        reannounce(message.keys, message.draft, 1, bucket="transcripts").body, layout=ANYWHERE, bucket="transcripts"
    )
    assert again.keys == message.keys
    assert again.sequence == message.sequence + 1


LARGE = {
    "text": {"x": "y" * 262_000},
    "letters that JSON escapes": {"x": "字" * 87_000},
    "quotes": {"x": '"' * 130_000},
}


@pytest.mark.parametrize("signer", [UNSIGNED, Signer(b"key-0123456789abcdef")], ids=["unsigned", "signed"])
@pytest.mark.parametrize("params", LARGE.values(), ids=LARGE)
def test_a_large_demo_job_can_be_continued(params: dict[str, str], signer: Signer) -> None:
    """However large the message of a demo job was, a worker accepts its continuation, and a queue takes it."""
    body = json.dumps({**DEMO, "parameters": params}, ensure_ascii=False)
    message = parse_message(body, layout=KeyLayout(""), bucket="transcripts")
    assert message.draft is not None
    sent = reannounce(message.keys, message.draft, 1, bucket="transcripts").body
    sent = signer.sign(sent, bucket="transcripts", prefix="")
    assert sent.isascii()
    assert len(sent) <= MAX_CHARACTERS
    again = parse_message(sent, layout=KeyLayout(""), bucket="transcripts", signer=signer)
    assert (again.keys, again.sequence) == (message.keys, 1)
    assert again.draft is None  # without its record it cannot start with other parameters


def test_a_small_demo_job_is_continued_with_its_parameters() -> None:
    """The demo's own worker can continue it, too."""
    message = parse_message(json.dumps(DEMO), layout=KeyLayout(""), bucket="transcripts")
    assert message.draft is not None
    assert json.loads(reannounce(message.keys, message.draft, 1, bucket="transcripts").body) == {**DEMO, "dispatch": 1}


def test_only_repeated_sends_share_a_deduplication_id() -> None:
    """A FIFO queue drops equal ids for five minutes, so only repeated sends share an id."""
    record = JobRecord("j" * 128, "w", epoch=1)
    assert announce(record, 1).dedup == announce(record, 1).dedup
    assert announce(record, 1).dedup != announce(record, 2).dedup
    assert announce(record, 1).dedup != announce(JobRecord("j" * 128, "w", epoch=2), 1).dedup
    assert len(announce(record, 1).dedup) <= 128


@pytest.mark.parametrize("demo", [False, True])
def test_a_resubmitted_job_gets_new_deduplication_ids(*, demo: bool) -> None:
    """A job that is submitted again after a purge gets new deduplication ids, although its numbers start again."""
    lives = [JobRecord("j", "w", demo=demo, timestamps=Timestamps(submitted=moment)) for moment in ("1", "2")]
    first, second = (reannounce(LAYOUT.job("j"), record, 1, bucket="b") for record in lives)
    assert first.body == second.body
    assert first.dedup != second.dedup


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ("x" * 300_000, "more than"),
        ("{}", "not a job id"),
        ('{"job": "../x"}', "not a job id"),
        ('{"job": "a", "holdfast": 2}', "version 2"),
        ('{"job": "a", "dispatch": -1}', "dispatch"),
        ('{"job": "a", "workload": 1}', "workload"),
        ('{"job": "a", "workload": "w", "params": []}', "params"),
        ('{"job": "a", "bucket": "transcripts"}', "both must be text"),
        ('{"job": "a", "bucket": "transcripts", "prefix": 1}', "both must be text"),
        ('{"bucket": "transcripts", "folder": 1}', "must both be text"),
        ('{"bucket": "transcripts", "folder": "a/../b"}', "plain ASCII path"),
        ('{"bucket": "transcripts", "folder": "a/.holdfast/records/x"}', "plain ASCII path"),
        ('{"bucket": "transcripts", "folder": "runs/b c"}', "not a job id"),
        ('{"bucket": "transcripts", "folder": ""}', "not a job id"),
    ],
)
def test_an_invalid_message_is_refused_with_a_reason(body: str, reason: str) -> None:
    """An invalid message is refused with a reason in one line."""
    with pytest.raises(RejectedMessageError, match=reason) as caught:
        parse_message(body, layout=LAYOUT, bucket="transcripts")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "owner"),
    [
        ('{"bucket": "other", "folder": "a/b"}', "bucket 'other' and folder 'a/b'"),
        (announce(JobRecord("a", "w"), 1, bucket="other", prefix="runs").body, "bucket 'other' and prefix 'runs'"),
        (announce(JobRecord("a", "w"), 1, bucket="b", prefix="").body, "bucket 'b' and prefix ''"),
        ('{"job": "a", "workload": "w", "bucket": "b", "prefix": "runs/1"}', "bucket 'b' and prefix 'runs/1'"),
    ],
)
def test_a_message_for_another_destination_is_foreign(body: str, owner: str) -> None:
    """A message that names another bucket or prefix is not invalid: it belongs to others."""
    with pytest.raises(ForeignMessageError, match=f"^{owner}$"):
        parse_message(body, layout=LAYOUT, bucket="b")


@pytest.mark.parametrize("demo", [False, True])
def test_every_message_that_is_sent_names_its_destination(*, demo: bool) -> None:
    """What pause, retry and reconcile send is refused by the workers of another bucket."""
    record = JobRecord("a", "w", demo=demo)
    body = reannounce(LAYOUT.job("a"), record, 2, bucket="b").body
    assert parse_message(body, layout=LAYOUT, bucket="b").is_addressed
    with pytest.raises(ForeignMessageError):
        parse_message(body, layout=LAYOUT, bucket="c")


def test_demo_jobs_of_one_name_have_different_deduplication_ids() -> None:
    """Demo jobs with the same id and different prefixes have different deduplication ids."""
    parsed = [
        parse_message(json.dumps({**DEMO, "folder": folder}), layout=ANYWHERE, bucket="transcripts")
        for folder in ("a/j", "b/j")
    ]
    messages = [reannounce(message.keys, message.draft, 2, bucket="transcripts") for message in parsed if message.draft]
    assert len({message.dedup for message in messages}) == 2
    assert all(len(message.dedup) <= 128 for message in messages)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ('{"a":' * 600 + "1" + "}" * 600, "nested more than 100 deep"),
        ('{"a":"' + "字" * 250_000 + '"}', "more than 524288"),
    ],
)
def test_a_job_with_an_oversized_record_is_refused(params: str, reason: str) -> None:
    """A job whose record would be too large or too deeply nested is refused before a record is written."""
    for body in (
        f'{{"job": "a", "workload": "w", "params": {params}}}',
        f'{{"bucket": "b", "folder": "runs/a", "parameters": {params}}}',
    ):
        with pytest.raises(RejectedMessageError, match=reason):
            parse_message(body, layout=LAYOUT, bucket="b")
