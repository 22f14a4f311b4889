"""`holdfast setup` and `holdfast doctor` with a server: common mistakes are reported, and corrected."""

import base64
import hashlib
import io
import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from support.stub import Reply, Stub, s3_error, sqs_error

from adapters.aws.admin import redrive_of
from client.cli import main
from client.commands import doctor, setup
from client.config.composition import open_admins, open_environment
from client.config.settings import Settings, from_environ
from client.operations.provisioning import plan_steps, policies
from client.operations.queue_checks import check_queue
from client.operations.store_checks import check_checksums, check_clock, check_continue, check_store
from client.views.check_result import CheckResult

Make = Callable[..., Settings]
KEYS = {"AWS_ID": "AKIATEST", "AWS_KEY": "not-a-secret", "CLOUDFLARE_ID": "AKIATEST", "CLOUDFLARE_KEY": "not-a-secret"}


@pytest.fixture
def make(moto_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that builds settings for a queue and a bucket that do not exist yet."""
    monkeypatch.chdir(tmp_path)

    def of(*, fifo: bool = False, **more: str) -> Settings:
        name = f"jobs-{uuid.uuid4().hex[:12]}"
        queue = f"{moto_url}/123456789012/{name}{'.fifo' if fifo else ''}"
        given = {
            "QUEUE_URL": queue,
            "CLOUDFLARE_URL": moto_url,
            "CLOUDFLARE_REGION": "us-east-1",
            "BUCKET": name,
            **KEYS,
            **more,
        }
        return from_environ(given, None)

    return of


def attributes(settings: Settings) -> dict[str, str]:
    queues, _ = open_admins(settings)
    return dict(queues.attributes(queues.url) or {})


def told(settings: Settings) -> dict[str, CheckResult]:
    """Run all checks of doctor, and return the results by subject."""
    return {result.subject: result for result in doctor.check_everything(open_environment(settings))}


@pytest.mark.parametrize("fifo", [False, True])
def test_setup_creates_everything_that_doctor_checks(make: Make, fifo: bool, capsys: Any) -> None:  # noqa: FBT001
    """After setup, doctor finds no problem; a second setup changes nothing, and no object is left."""
    settings = make(fifo=fifo)
    assert setup.run(settings, yes=False, dry_run=True) == 1
    assert "to be created" in capsys.readouterr().out
    assert attributes(settings) == {}
    assert setup.run(settings, yes=True, dry_run=False) == 0
    made = attributes(settings)
    assert (made["MessageRetentionPeriod"], made["VisibilityTimeout"]) == ("1209600", "120")
    redrive = redrive_of(made)
    assert redrive is not None
    assert (redrive[0].endswith("-dead.fifo" if fifo else "-dead"), redrive[1]) == (True, 1000)
    capsys.readouterr()
    assert setup.run(settings, yes=False, dry_run=False) == 0
    assert "need no changes" in capsys.readouterr().out
    env = open_environment(settings)
    assert doctor.run(env, as_json=False) == 0
    assert "no problems found" in capsys.readouterr().out
    assert list(env.store.list("")) == []


def test_setup_corrects_an_existing_queue(make: Make, sqs_client: Any, capsys: Any) -> None:
    """Doctor reports wrong attributes of an existing queue; setup shows and corrects them, and leaves the others."""
    settings = make(fifo=True)
    name = settings.queue_url.rpartition("/")[2]
    dead = sqs_client.create_queue(QueueName=f"mine-{name}", Attributes={"FifoQueue": "true"})["QueueUrl"]
    arn = sqs_client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})
    given = {"FifoQueue": "true", "MessageRetentionPeriod": "345600", "RedrivePolicy": policy, "DelaySeconds": "7"}
    sqs_client.create_queue(QueueName=name, Attributes=given)
    found = told(settings)
    assert (found["retention"].ok, found["dead letters"].ok) == (False, False)
    assert "keeps messages for 4 days" in found["retention"].finding
    assert "healthy jobs lose their messages" in found["dead letters"].finding
    assert doctor.run(open_environment(settings), as_json=True) == 1
    capsys.readouterr()
    assert setup.run(settings, yes=True, dry_run=False) == 0
    assert "MessageRetentionPeriod: 345600 -> 1209600" in capsys.readouterr().out
    made = attributes(settings)
    assert redrive_of(made) == (arn, 1000)
    assert made["DelaySeconds"] == "7"


def test_a_higher_receive_limit_is_kept(make: Make, sqs_client: Any) -> None:
    """A higher receive limit than Holdfast's loses no message, so setup keeps it."""
    settings = make()
    setup.run(settings, yes=True, dry_run=False)
    redrive = redrive_of(attributes(settings))
    assert redrive is not None
    policy = json.dumps({"deadLetterTargetArn": redrive[0], "maxReceiveCount": 5000})
    queues, bucket = open_admins(settings)
    queues.change(queues.url, {"RedrivePolicy": policy})
    assert plan_steps(queues, bucket, settings.lease) == []


def test_without_confirmation_nothing_is_changed(make: Make, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal and `--yes`, setup changes nothing, and one line says how to confirm."""
    settings = make()
    given = {"QUEUE_URL": settings.queue_url, "CLOUDFLARE_URL": settings.store_url, "BUCKET": settings.bucket, **KEYS}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["setup"]) == 2
    assert "pass --yes to go ahead" in capsys.readouterr().err
    assert attributes(settings) == {}


def test_a_lease_longer_than_the_limit_is_an_error(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease of 12 h or more, during which SQS would show the message to a second worker, is an error at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEASE", "13h")
    assert main(["doctor"]) == 78
    assert "LEASE=13h must be shorter than 12h" in capsys.readouterr().err


def test_a_missing_queue_and_bucket_are_reported(make: Make) -> None:
    """A missing queue or bucket is reported with a remedy, including the URL of another jurisdiction."""
    found = told(make())
    assert "holdfast setup" in found["queue"].remedy
    assert ".eu.r2.cloudflarestorage.com" in found["bucket"].remedy


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (sqs_error(403, "InvalidClientTokenId"), "check AWS_ID and AWS_KEY"),
        (sqs_error(403, "SignatureDoesNotMatch"), "check AWS_ID and AWS_KEY"),
        (sqs_error(400, "ExpiredTokenException"), "check AWS_ID and AWS_KEY"),
    ],
)
def test_wrong_queue_keys_are_reported(make: Make, stub: Stub, reply: Reply, said: str) -> None:
    """Wrong keys of the queue are reported with the names of the settings."""
    stub.script(reply)
    [result] = check_queue(open_environment(make(QUEUE_URL=f"{stub.url}/1/q")))
    assert result.ok is False
    assert said in result.finding


def test_wrong_bucket_keys_are_reported(make: Make, stub: Stub) -> None:
    """Wrong keys of the bucket are reported with the names of the settings."""
    stub.script(s3_error(403, "SignatureDoesNotMatch"))
    [result] = check_store(open_environment(make(CLOUDFLARE_URL=stub.url)))
    assert result.ok is False
    assert "check CLOUDFLARE_ID and CLOUDFLARE_KEY" in result.finding


def test_a_wrong_clock_is_reported(make: Make, stub: Stub) -> None:
    """The node's clock is compared with the `Date` of the store's response."""
    date = format_datetime(datetime.now(UTC) - timedelta(hours=3), usegmt=True)
    page = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    stub.script(Reply(200, page, {"Date": date, "Content-Type": "application/xml"}))
    result = check_clock(open_environment(make(CLOUDFLARE_URL=stub.url)))
    assert result.ok is False
    assert re.search(r"is \+108\d\d s off", result.finding)


def test_a_bucket_that_accepts_wrong_bytes_is_reported(make: Make, stub: Stub) -> None:
    """A bucket that ignores checksums is a warning and not an error, since all content is verified when read."""
    bucket = open_admins(make(CLOUDFLARE_URL=stub.url))[1]
    stub.script(s3_error(400, "BadDigest"))
    assert check_checksums(bucket, "k").ok
    sent = stub.requests[-1]
    assert base64.b64decode(sent.headers["content-md5"]) != hashlib.md5(sent.body, usedforsecurity=False).digest()
    stub.script(Reply(200, b"", {"ETag": '"e"'}))
    assert check_checksums(bucket, "k").ok is None


def test_a_store_that_never_sends_continue_is_reported(make: Make, stub: Stub) -> None:
    """The result gives the delay that boto3 alone would have; the calls made after it do not ask for `100-continue`."""
    bucket = open_admins(make(CLOUDFLARE_URL=stub.url))[1]
    stub.script(Reply(200, b"", {"ETag": '"e"'}))
    assert "costs nothing" in check_continue(bucket, "k").finding
    stub.says_continue = False
    assert re.search(r"never sent: boto3 by itself loses \d+\.\d s per put", check_continue(bucket, "k").finding)
    assert stub.requests[-1].headers["expect"] == "100-continue"
    stub.script(s3_error(400, "BadDigest"))
    bucket.refuses_wrong_bytes("k")
    assert "expect" not in stub.requests[-1].headers


def test_policies_allow_the_documented_actions(make: Make) -> None:
    """The worker's policy allows exactly the documented actions, and every policy is valid JSON for IAM."""
    settings = make()
    made = policies(settings.queue_url, settings.bucket)
    assert json.loads(json.dumps(made)) == made
    documented = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    [line] = re.findall(r"the worker needs sqs:([^(]*)\(", documented.replace("\n  ", " "))
    actions = {f"sqs:{action.strip()}" for action in line.split(",")}
    assert set(made["worker"]["iam"]["Statement"][0]["Action"]) == actions
    assert all(role["iam"]["Version"] == "2012-10-17" for role in made.values())


def test_the_local_default_needs_no_setup(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local queue and store need no setup, and doctor checks them too."""
    monkeypatch.chdir(tmp_path)
    settings = from_environ({}, None)
    assert setup.run(settings, yes=False, dry_run=False) == 0
    assert "need no setup" in capsys.readouterr().out
    assert doctor.run(open_environment(settings), as_json=True) == 0
    assert all(json.loads(line)["ok"] for line in capsys.readouterr().out.splitlines())
