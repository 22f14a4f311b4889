"""The dashboard's security, and its cancel and retry forms."""

import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from support.page import EVERYWHERE, HERE, TOKEN, client_of, new_site, put, state_of, token_of

from client.config.environment import Environment
from client.web.security import SecurityRules, is_loopback, names_of
from lifecycle.job_record import CheckpointRef, JobRecord
from lifecycle.states import State


@pytest.fixture
def env() -> Environment:
    """Return an empty environment."""
    return new_site()


@pytest.fixture
def web(env: Environment) -> Iterator[TestClient]:
    yield from client_of(env)


@pytest.fixture
def locked(env: Environment) -> Iterator[TestClient]:
    """Yield a client of a dashboard that requires a token."""
    yield from client_of(env, SecurityRules(names_of("127.0.0.1"), token=TOKEN))


# ---- access ----


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "", "127.0.0.1.evil.example", "10.0.0.1", "["])
def test_unknown_host_names_are_refused(web: TestClient, host: str) -> None:
    """A request under an unknown host name is refused, which prevents DNS rebinding."""
    answer = web.get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert "Jobs by state" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8765", "[::1]:8765", "LOCALHOST"])
def test_known_host_names_are_accepted(web: TestClient, host: str) -> None:
    """The loopback names are accepted with any port, since a tunnel changes the port."""
    assert web.get("/", headers={"Host": host}).status_code == 200


def test_host_names_on_a_network_address() -> None:
    """On a network address, bare addresses and allowed names are accepted, and other names are refused."""
    rules = SecurityRules(names_of(EVERYWHERE, ["Jobs.example"]), any_address=True)
    assert rules.accepts_host("192.168.7.7:8765")
    assert rules.accepts_host("[fe80::1]:8765")
    assert rules.accepts_host("jobs.example")
    assert not rules.accepts_host("evil.example:8765")
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert not any(is_loopback(host) for host in (EVERYWHERE, "::", "10.0.0.1", "jobs.example"))


def test_without_the_token_nothing_is_shown(locked: TestClient, env: Environment) -> None:
    """Without the token every page, asset, stream and action is refused; the token itself is not a valid cookie."""
    put(env, JobRecord("hidden", "s"))
    name = SecurityRules(frozenset(), token=TOKEN).cookie_name
    for path in ("/", "/jobs", "/jobs/hidden", "/nodes", "/events", "/assets/holdfast.js", f"/?token={TOKEN[:-1]}"):
        assert locked.get(path).status_code == 401, path
    assert locked.get("/", headers={"Cookie": f"{name}={TOKEN}"}).status_code == 401
    assert locked.post("/jobs/hidden/cancel", headers={"Origin": HERE}).status_code == 401


def test_the_token_becomes_a_cookie_and_leaves_the_address(locked: TestClient) -> None:
    """A token in the URL is exchanged for a cookie, which does not contain it, and removed from the URL."""
    answer = locked.get(f"/jobs?state=failed&token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=failed")
    cookies = answer.headers.get_list("set-cookie")
    assert all("HttpOnly" in one and "SameSite=" in one for one in cookies)
    assert TOKEN not in "".join(cookies)
    assert locked.get("/jobs").status_code == 200


def test_every_response_has_security_headers(web: TestClient) -> None:
    """Every response has a policy that forbids inline scripts and other origins, and pages are not cached."""
    for path in ("/", "/jobs", "/nodes", "/nowhere", "/assets/holdfast.js"):
        answer = web.get(path)
        limits = answer.headers["content-security-policy"]
        assert "default-src 'none'" in limits
        assert "unsafe" not in limits
        assert "frame-ancestors 'none'" in limits
        assert answer.headers["referrer-policy"] == "same-origin"
    page = web.get("/")
    assert page.headers["cache-control"] == "no-store"
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page.text))
    assert not re.search(r"\son\w+=|\sstyle=", page.text)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page.text)


# ---- cancel and retry ----


def test_cancel_and_retry_forms(web: TestClient, env: Environment) -> None:
    """Viewing a form changes nothing; posting it acts, and redirects to the job."""
    put(env, JobRecord("a", "s"))
    page = web.get("/jobs/a/cancel")
    assert page.status_code == 200
    assert state_of(env, "a") is State.QUEUED
    form = {"form_token": token_of(page.text)}
    answer = web.post("/jobs/a/cancel", data=form, headers={"Origin": HERE})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/a")
    assert state_of(env, "a") is State.CANCELLED
    assert web.post("/jobs/a/retry", data=form, headers={"Origin": HERE}).status_code == 303
    assert state_of(env, "a") is State.QUEUED


def test_an_action_does_not_wait_for_webhooks(
    web: TestClient, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response does not wait for the receiver of webhooks."""
    put(env, JobRecord("a", "s"))
    form = {"form_token": token_of(web.get("/jobs/a/cancel").text)}
    order: list[str] = []

    def deliver(_: Environment, jobs: list[str]) -> list[str]:
        order.append(f"delivery of {jobs}")
        return []

    monkeypatch.setattr("client.web.pages.deliver_after_change", deliver)

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            order.append(message["type"])
            await send(message)

        await web.app(scope, receive, sent)

    seen = TestClient(watched, base_url=HERE, follow_redirects=False, cookies=web.cookies)
    assert seen.post("/jobs/a/cancel", data=form, headers={"Origin": HERE}).status_code == 303
    assert order == ["http.response.start", "http.response.body", "delivery of ['a']"]


def test_retry_from_the_start_drops_the_checkpoints(web: TestClient, env: Environment) -> None:
    """A retry drops the checkpoints only if the box is ticked."""
    ref = CheckpointRef("m", "blake3:0", 1, step=7)
    put(
        env,
        JobRecord("a", "s", state=State.FAILED, checkpoint=ref),
        JobRecord("b", "s", state=State.FAILED, checkpoint=ref),
    )
    page = web.get("/jobs/a/retry").text
    assert "step 7" in page
    form = {"form_token": token_of(page)}
    web.post("/jobs/a/retry", data=form, headers={"Origin": HERE})
    web.post("/jobs/b/retry", data={**form, "from_start": "1"}, headers={"Origin": HERE})
    kept = [env.record_store.read(env.layout.job(job).record) for job in "ab"]
    assert [one.record.checkpoint for one in kept if one] == [ref, None]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1:1", "http://127.0.0.1:8765.evil"]
)
def test_a_form_of_another_site_does_nothing(web: TestClient, env: Environment, origin: str) -> None:
    """A post from another origin is refused, even with a valid form token; another port is another origin."""
    put(env, JobRecord("a", "s"))
    form = {"form_token": token_of(web.get("/jobs/a/cancel").text)}
    answer = web.post("/jobs/a/cancel", data=form, headers={"Origin": origin} if origin else {})
    assert answer.status_code == 403
    assert state_of(env, "a") is State.QUEUED


@pytest.mark.parametrize("form", [{}, {"form_token": ""}, {"form_token": "0" * 64}, {"form_token": "é"}])
def test_a_form_without_a_token_does_nothing(web: TestClient, env: Environment, form: dict[str, str]) -> None:
    """A post without a valid form token is refused, even from the same origin."""
    put(env, JobRecord("a", "s"))
    web.get("/jobs/a/cancel")
    assert web.post("/jobs/a/cancel", data=form, headers={"Origin": HERE}).status_code == 403
    assert state_of(env, "a") is State.QUEUED


def test_the_token_of_another_session_does_nothing(web: TestClient, env: Environment) -> None:
    """A form token is valid only in the session of its cookie."""
    put(env, JobRecord("a", "s"))
    form = {"form_token": token_of(web.get("/jobs/a/cancel").text)}
    web.cookies.clear()
    assert web.post("/jobs/a/cancel", data=form, headers={"Origin": HERE}).status_code == 403
    assert state_of(env, "a") is State.QUEUED


def test_impossible_actions_are_refused(web: TestClient, env: Environment) -> None:
    """An action that is impossible, unknown or oversized is refused with a matching status."""
    put(env, JobRecord("a", "s", state=State.COMPLETED))
    form = {"form_token": _form_token(web, env)}
    answer = web.post("/jobs/a/cancel", data=form, headers={"Origin": HERE})
    assert answer.status_code == 409
    assert "there is nothing to cancel" in answer.text
    assert web.post("/jobs/none/cancel", data=form, headers={"Origin": HERE}).status_code == 404
    assert web.post("/jobs/a/explode", data=form, headers={"Origin": HERE}).status_code == 404
    assert web.get("/jobs/a/explode").status_code == 404
    assert web.post("/jobs/a/cancel", data={"x": "y" * 9999}, headers={"Origin": HERE}).status_code == 413


def _form_token(web: TestClient, env: Environment) -> str:
    put(env, JobRecord("other", "s"))
    return token_of(web.get("/jobs/other/cancel").text)
