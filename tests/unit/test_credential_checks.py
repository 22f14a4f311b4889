"""Credential checks: the results of `holdfast doctor` for signing and keys."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.memory.clock import ManualClock
from client.config.settings import from_environ
from client.operations.credential_checks import check_credentials

KEYS = {"AWS_ID": "a", "AWS_KEY": "hush", "CLOUDFLARE_ID": "a", "CLOUDFLARE_KEY": "hush"}
LAYOUT = {"QUEUE_URL": "https://sqs.us-east-2.amazonaws.com/1/q", "CLOUDFLARE_URL": "https://x", "BUCKET": "b"}


def told(environ: dict[str, str], clock: ManualClock | None = None) -> dict[str, tuple[bool | None, str]]:
    found = check_credentials(from_environ(environ, None), clock or ManualClock())
    return {result.subject: (result.ok, result.line()) for result in found}


def test_signing_is_reported() -> None:
    """The result says that signing is off, on, or on with a second accepted key."""
    key = {"JOB_SIGNING_KEY": "0123456789-abcdef"}
    assert "off: anyone who may send" in told({})["signing"][1]
    assert "on: workers" in told(key)["signing"][1]
    assert "JOB_SIGNING_KEY_OTHER" not in told(key)["signing"][1]
    assert (
        "JOB_SIGNING_KEY_OTHER are accepted too"
        in told({**key, "JOB_SIGNING_KEY_OTHER": "fedcba-9876543210"})["signing"][1]
    )


def test_keys_that_cannot_be_renewed_are_reported() -> None:
    """Temporary keys that nothing renews are a warning."""
    plain = told({**LAYOUT, **KEYS})
    assert [plain[f"keys for the {what}"][0] for what in ("queue", "bucket")] == [True, True]
    fine, line = told({**LAYOUT, **KEYS, "AWS_TOKEN": "hush"})["keys for the queue"]
    assert fine is None
    assert "nothing renews them" in line
    assert "AWS_CREDENTIALS_FILE" in line
    assert "hush" not in line


@pytest.mark.parametrize(
    ("left", "fine", "says"),
    [
        (timedelta(minutes=55), True, "expire in 55 min; read again before that"),
        (timedelta(seconds=-90), False, "expired 90 s ago"),
        (None, True, "without an expiry time: read again when refused"),
    ],
)
def test_the_expiry_of_keys_in_a_file_is_reported(
    tmp_path: Path, left: timedelta | None, says: str, *, fine: bool
) -> None:
    """The result gives the expiry time of keys in a file, read as a worker reads it."""
    clock, file = ManualClock(), tmp_path / "keys"
    expires = {} if left is None else {"Expiration": (clock.now() + left).isoformat()}
    file.write_text(json.dumps({"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "hush", **expires}))
    files = {"AWS_CREDENTIALS_FILE": str(file), "CLOUDFLARE_CREDENTIALS_FILE": str(tmp_path / "none")}
    found = told({**LAYOUT, **files}, clock)
    assert found["keys for the queue"][0] is fine
    assert says in found["keys for the queue"][1]
    assert found["keys for the bucket"][0] is False
    assert "cannot be read: No such file" in found["keys for the bucket"][1]
