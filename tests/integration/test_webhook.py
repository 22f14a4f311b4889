"""The webhook adapter with a real server: its requests, and its reaction to each response."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from attrs import evolve
from support.notices import KEYS, NOTICE
from support.stub import CUT_SHORT, DROP, HANG, Reply, Stub

import adapters.webhook
from adapters.local.clock import SystemClock
from adapters.memory.clock import ManualClock
from adapters.webhook import TRIES, RetryingNotifier, Webhook, sign
from lifecycle.errors import PermanentError, RetryableError

KEY, OLD = "a-key-that-is-long-enough", "the-key-before-that-one"


def webhook(url: str, *keys: str) -> Webhook:
    return Webhook(url, keys=keys or (KEY,), clock=ManualClock())


def test_a_notice_is_one_post(stub: Stub) -> None:
    """A notice is one POST to exactly the configured address, with JSON and the Standard Webhooks headers."""
    stub.script(Reply(204))
    webhook(f"{stub.url}/hooks/x?room=7").deliver(KEYS, NOTICE)
    [request] = stub.requests
    assert (request.method, request.path) == ("POST", "/hooks/x?room=7")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == NOTICE.id
    sent = json.loads(request.body)
    assert sent == {
        "id": NOTICE.id,
        "job": "md-7",
        "prefix": "runs",
        "state": "released",
        "epoch": 3,
        "number": 2,
        "node": "gpu-4711",
        "at": NOTICE.at,
        "cause": "workload_failed",
        "error": NOTICE.error,
        "progress": {"done": 700, "total": 1000},
        "missed": 2,
    }


def test_the_signature_matches_the_specification() -> None:
    """The example in the Standard Webhooks libraries' tests has the expected signature."""
    body = b'{"email":"test@example.com","username":"test_user"}'
    signed = sign(
        ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"],
        notice_id="msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        timestamp=1649367553,
        body=body,
    )
    assert signed == "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="


def test_during_a_key_rotation_both_keys_sign(stub: Stub) -> None:
    """During a rotation, a receiver with either key can verify the id, the time and the body."""
    stub.script(Reply(200))
    webhook(stub.url, KEY, OLD).deliver(KEYS, NOTICE)
    [request] = stub.requests
    stamp = request.headers["webhook-timestamp"]
    assert datetime.fromtimestamp(int(stamp), UTC) == ManualClock().now().replace(microsecond=0)
    signed = f"{NOTICE.id}.{stamp}.".encode() + request.body
    expected = [
        base64.b64encode(hmac.new(key.encode(), signed, hashlib.sha256).digest()).decode() for key in (KEY, OLD)
    ]
    assert request.headers["webhook-signature"] == f"v1,{expected[0]} v1,{expected[1]}"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_2xx_status_means_delivered(stub: Stub, status: int) -> None:
    """Every 2xx status means delivered."""
    stub.script(Reply(status))
    webhook(stub.url).deliver(KEYS, NOTICE)
    assert len(stub.requests) == 1


@pytest.mark.parametrize("status", [400, 402, 406, 410, 413, 415, 422, 451])
def test_a_refusal_of_the_notice_is_permanent(stub: Stub, status: int) -> None:
    """A refusal of the notice itself is permanent, and is not retried."""
    stub.script(Reply(status))
    with pytest.raises(PermanentError, match=f"answers {status}"):
        RetryingNotifier(webhook(stub.url), ManualClock()).deliver(KEYS, NOTICE)
    assert len(stub.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 405, 407, 408, 409, 421, 423, 425, 429, 500, 502, 503, 504])
def test_a_failing_receiver_is_retryable(stub: Stub, status: int) -> None:
    """A failing receiver, or a wrong key or address, is retryable: nothing is lost until it is corrected."""
    stub.script(Reply(status))
    with pytest.raises(RetryableError, match=f"answers {status}"):
        RetryingNotifier(webhook(stub.url), ManualClock()).deliver(KEYS, NOTICE)
    assert len(stub.requests) == TRIES


def test_a_retry_sends_the_same_notice(stub: Stub) -> None:
    """A retry sends the same notice, byte for byte, under the same id."""
    stub.script(Reply(503), Reply(200))
    RetryingNotifier(webhook(stub.url), ManualClock()).deliver(KEYS, NOTICE)
    first, second = stub.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(stub: Stub, status: int) -> None:
    """A receiver cannot redirect a signed notice, for example to a cloud's metadata service."""
    stub.script(Reply(status, headers={"Location": f"{stub.url}/elsewhere"}))
    with pytest.raises(RetryableError, match="redirects are not followed"):
        webhook(f"{stub.url}/here").deliver(KEYS, NOTICE)
    assert [request.path for request in stub.requests] == ["/here"]


def test_no_proxy_is_used(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies configured in the environment are ignored."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    stub.script(Reply(200))
    webhook(stub.url).deliver(KEYS, NOTICE)
    assert len(stub.requests) == 1


def test_a_receiver_that_hangs_times_out(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that hangs costs one short time-out."""
    assert adapters.webhook.TIMEOUT_S <= 5
    monkeypatch.setattr(adapters.webhook, "TIMEOUT_S", 0.2)
    stub.script(HANG)
    with pytest.raises(RetryableError, match="timed out"):
        webhook(stub.url).deliver(KEYS, NOTICE)


def test_a_broken_connection_is_not_a_delivery(stub: Stub) -> None:
    """A connection that breaks before a response is not a delivery."""
    stub.script(DROP)
    with pytest.raises(RetryableError):
        webhook(stub.url).deliver(KEYS, NOTICE)


def test_a_response_truncated_after_its_status_is_a_delivery(stub: Stub) -> None:
    """Status 200 means delivered, even if the rest of the response is missing."""
    stub.script(CUT_SHORT)
    webhook(stub.url).deliver(KEYS, NOTICE)


def test_errors_name_only_the_host() -> None:
    """No message contains the address's path or query, which may be secret."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(RetryableError, match="refused") as raised:
            webhook(f"http://127.0.0.1:{port}/services/T0/secret?token=secret").deliver(KEYS, NOTICE)
    assert "secret" not in str(raised.value)


def test_an_id_that_cannot_be_a_header_is_refused(stub: Stub) -> None:
    """An id that was edited in the record can neither add a header nor block other notices."""
    stub.script(Reply(200))
    with pytest.raises(PermanentError, match="cannot be a header"):
        webhook(stub.url).deliver(KEYS, evolve(NOTICE, id="x\r\nEvil: 1"))
    assert stub.requests == []


def test_https_needs_a_trusted_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver needs a certificate that this machine trusts."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    server = Stub(tls)
    server.script(Reply(200))
    try:
        with pytest.raises(RetryableError, match="CERTIFICATE_VERIFY_FAILED"):
            Webhook(server.url, keys=[KEY], clock=SystemClock()).deliver(KEYS, NOTICE)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        Webhook(server.url, keys=[KEY], clock=SystemClock()).deliver(KEYS, NOTICE)
    finally:
        server.close()
    assert len(server.requests) == 1


def test_https_works_in_an_image_without_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In an image without certificates, those that come with boto3 are trusted."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "empty"))
    tls = Webhook("https://127.0.0.1:1", keys=[KEY], clock=SystemClock())._tls
    assert tls
    assert tls.cert_store_stats()["x509_ca"] > 50
