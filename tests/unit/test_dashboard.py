"""The web page: who may use it, and what it takes as an order."""

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
    """An empty one."""
    return new_site()


@pytest.fixture
def web(env: Environment) -> Iterator[TestClient]:
    yield from client_of(env)


@pytest.fixture
def locked(env: Environment) -> Iterator[TestClient]:
    """One that wants a token."""
    yield from client_of(env, SecurityRules(names_of("127.0.0.1"), token=TOKEN))


# ---- who may use it ----


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "", "127.0.0.1.evil.example", "10.0.0.1", "["])
def test_a_name_that_is_not_ours_is_refused(web: TestClient, host: str) -> None:
    """A DNS name that somebody pointed at this machine must not read the page."""
    answer = web.get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert "Jobs by state" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8765", "[::1]:8765", "LOCALHOST"])
def test_our_names_are_ours(web: TestClient, host: str) -> None:
    """Through a tunnel the port is another."""
    assert web.get("/", headers={"Host": host}).status_code == 200


def test_names_for_an_address_of_the_network() -> None:
    """A bare address cannot be rebound; a name must be the machine's own or allowed."""
    rules = SecurityRules(names_of(EVERYWHERE, ["Jobs.example"]), any_address=True)
    assert rules.accepts_host("192.168.7.7:8765")
    assert rules.accepts_host("[fe80::1]:8765")
    assert rules.accepts_host("jobs.example")
    assert not rules.accepts_host("evil.example:8765")
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert not any(is_loopback(host) for host in (EVERYWHERE, "::", "10.0.0.1", "jobs.example"))


def test_without_the_token_nothing_is_shown(locked: TestClient, env: Environment) -> None:
    """Neither pages nor assets nor events; nor with a part of it, or with the token as the cookie."""
    put(env, JobRecord("hidden", "s"))
    name = SecurityRules(frozenset(), token=TOKEN).cookie_name
    for path in ("/", "/jobs", "/jobs/hidden", "/nodes", "/events", "/assets/holdfast.js", f"/?token={TOKEN[:-1]}"):
        assert locked.get(path).status_code == 401, path
    assert locked.get("/", headers={"Cookie": f"{name}={TOKEN}"}).status_code == 401
    assert locked.post("/jobs/hidden/cancel", headers={"Origin": HERE}).status_code == 401


def test_the_token_becomes_a_cookie_and_leaves_the_address(locked: TestClient) -> None:
    """So that neither history nor a bookmark of the page has it; the cookie is not the token."""
    answer = locked.get(f"/jobs?state=failed&token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=failed")
    cookies = answer.headers.get_list("set-cookie")
    assert all("HttpOnly" in one and "SameSite=" in one for one in cookies)
    assert TOKEN not in "".join(cookies)
    assert locked.get("/jobs").status_code == 200


def test_every_answer_says_what_browsers_may_load(web: TestClient) -> None:
    """No inline script anywhere, so the policy can forbid it; nothing is kept by caches."""
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


def test_cancel_and_retry_by_their_forms(web: TestClient, env: Environment) -> None:
    """A look changes nothing; the form that was shown does; then back to the job."""
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


def test_the_operator_does_not_wait_for_who_is_told(
    web: TestClient, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver of webhooks may hang; the answer is out by then."""
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


def test_retry_from_the_start_forgets_the_checkpoints(web: TestClient, env: Environment) -> None:
    """Only where the box is ticked."""
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
    """Even with the right token in it; another port is another site."""
    put(env, JobRecord("a", "s"))
    form = {"form_token": token_of(web.get("/jobs/a/cancel").text)}
    answer = web.post("/jobs/a/cancel", data=form, headers={"Origin": origin} if origin else {})
    assert answer.status_code == 403
    assert state_of(env, "a") is State.QUEUED


@pytest.mark.parametrize("form", [{}, {"form_token": ""}, {"form_token": "0" * 64}, {"form_token": "é"}])
def test_a_form_without_our_token_does_nothing(web: TestClient, env: Environment, form: dict[str, str]) -> None:
    """Even from our own origin."""
    put(env, JobRecord("a", "s"))
    web.get("/jobs/a/cancel")
    assert web.post("/jobs/a/cancel", data=form, headers={"Origin": HERE}).status_code == 403
    assert state_of(env, "a") is State.QUEUED


def test_the_token_of_another_session_does_nothing(web: TestClient, env: Environment) -> None:
    """It is of the cookie's session."""
    put(env, JobRecord("a", "s"))
    form = {"form_token": token_of(web.get("/jobs/a/cancel").text)}
    web.cookies.clear()
    assert web.post("/jobs/a/cancel", data=form, headers={"Origin": HERE}).status_code == 403
    assert state_of(env, "a") is State.QUEUED


def test_what_cannot_be_done_is_said(web: TestClient, env: Environment) -> None:
    """With the reason; a form that is too long is not read to its end; GET does nothing."""
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
