"""The pages: each is whole as it is, and its script only brings it up to date."""

from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import anyio.to_thread
from attrs import evolve, frozen
from jinja2 import Environment
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from client.commands.status import as_object, is_stale
from client.operations import job_control as control
from client.operations.notices import tell_quietly
from client.records.reader import Found, read_one
from client.records.record_index import ORDERS, Query, eta_s
from client.web import history
from client.web.nodes import nodes_of
from client.web.refresher import Refresher
from client.web.security import Rules, read_form
from lifecycle.errors import ConfigError, HoldfastError, RetryableError
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import OWNED, State, Trigger, is_legal

T = TypeVar("T")

PAGE: Final = 50
LATEST: Final = 10
MOST_EVENTS: Final = 200
LONGEST_TEXT: Final = 200
ACTS: Final = {"cancel": Trigger.CANCEL, "retry": Trigger.RETRY}


@frozen
class JobRow:
    """A job in a table.

    Attributes:
        job: Its id.
        stored: Its record.
        problem: Why there is none to show.
        stale: Whether its owner's lease ran out.
        share: Of its steps that are done; None if nobody can know.
        eta_s: Seconds to its end; None likewise.
    """

    job: str
    stored: StoredRecord | None
    problem: str | None
    stale: bool
    share: float | None
    eta_s: float | None


def row(found: Found) -> JobRow:
    """A job as a table shows it."""
    if found.stored is None:
        return JobRow(found.job, None, found.problem, stale=False, share=None, eta_s=None)
    record = found.stored.record
    progress = record.progress
    share = progress.done / progress.total if progress.done is not None and progress.total else None
    stale, left = is_stale(found.stored), eta_s(record)
    eta = None if left is None or stale else max(left - found.stored.age_s, 0.0)
    return JobRow(found.job, found.stored, found.problem, stale, share, eta)


@frozen
class Choice:
    """Which jobs a page shows, as its address says."""

    state: State | None
    stale: bool
    text: str
    sort: str
    backwards: bool
    page: int

    @classmethod
    def of(cls, request: Request) -> "Choice":
        """What the address says; what it says wrongly is as if it were not there."""
        given = request.query_params
        state, sort, page = given.get("state", ""), given.get("sort", ""), given.get("page", "")
        return cls(
            state=State(state) if state in {one.value for one in State} else None,
            stale=bool(given.get("stale")),
            text=given.get("text", "").strip()[:LONGEST_TEXT],
            sort=sort if sort in ORDERS else "job",
            backwards=bool(given.get("reverse")),
            page=int(page) if page.isascii() and page.isdigit() and 0 < len(page) < 10 else 1,  # noqa: PLR2004 - pages
        )

    def query(self) -> Query:
        """For the index: one page."""
        return Query(
            states=(self.state,) if self.state else (),
            stale=self.stale,
            text=self.text,
            sort=self.sort,
            backwards=self.backwards,
            limit=PAGE,
            offset=(max(self.page, 1) - 1) * PAGE,
        )

    def address(self, **changes: Any) -> str:
        """The address of the same jobs, with *changes*."""
        now = evolve(self, **changes)
        parts = {
            "state": now.state.value if now.state else "",
            "stale": "1" if now.stale else "",
            "text": now.text,
            "sort": "" if now.sort == "job" else now.sort,
            "reverse": "1" if now.backwards else "",
            "page": "" if now.page <= 1 else str(now.page),
        }
        words = urlencode({name: text for name, text in parts.items() if text})
        return f"/jobs?{words}" if words else "/jobs"

    def sorted_by(self, sort: str) -> str:
        """The address of a table's head: that order, or the other way round if it is that order already."""
        return self.address(sort=sort, backwards=sort == self.sort and not self.backwards, page=1)


class Pages:
    """Answers to browsers.

    Args:
        refresher: What is shown.
        rules: For forms.
        templates: How.
    """

    def __init__(self, refresher: Refresher, rules: Rules, templates: Environment) -> None:
        self._refresher = refresher
        self._rules = rules
        self._templates = templates
        self._logs = history.Logs(refresher.env)

    async def overview(self, request: Request) -> Response:
        """The diagram with the jobs in each state, and what changed last."""
        await self._refresher.look()
        query = Query(sort="updated", limit=LATEST)
        rows = await _in_thread(lambda: self._rows(query))
        return self._page("overview.html", request, rows=rows, taken=set(), here=None, choice=None)

    async def jobs(self, request: Request) -> Response:
        """A page of the jobs that the address asks for."""
        await self._refresher.look()
        choice = Choice.of(request)
        total = await _in_thread(lambda: sum(self._refresher.index.count(choice.query()).values()))
        last = max(-(-total // PAGE), 1)
        choice = evolve(choice, page=min(choice.page, last))
        rows = await _in_thread(lambda: self._rows(choice.query()))
        return self._page("jobs.html", request, rows=rows, choice=choice, total=total, last=last)

    async def job(self, request: Request) -> Response:
        """All about one job, from its record itself."""
        job = request.path_params["job"]
        return await _in_thread(lambda: self._job(request, job))

    async def plot(self, request: Request) -> Response:
        """What a job's plots are drawn from."""
        job = request.path_params["job"]
        return await _in_thread(lambda: self._plot(job))

    async def nodes(self, request: Request) -> Response:
        """Who owns jobs."""
        await self._refresher.look()
        found = await _in_thread(lambda: nodes_of(self._refresher.index))
        return self._page("nodes.html", request, nodes=found)

    async def confirm(self, request: Request) -> Response:
        """Ask before anything is done."""
        job, act = request.path_params["job"], request.path_params["act"]
        if act not in ACTS:
            return self.trouble(404, "There is no such page.")
        return await _in_thread(lambda: self._confirm(request, job, act))

    async def act(self, request: Request) -> Response:
        """Do what was confirmed; then back to the job."""
        job, act = request.path_params["job"], request.path_params["act"]
        if act not in ACTS:
            return self.trouble(404, "There is no such page.")
        fields = await read_form(request, self._rules)
        if isinstance(fields, Response):
            return fields
        do = control.cancel if act == "cancel" else control.retry_from_start if "anew" in fields else control.retry
        return await _in_thread(lambda: self._act(request, job, act, do))

    def trouble(self, status: int, why: str) -> Response:
        """A page that says what is wrong."""
        body = self._templates.get_template("trouble.html").render(news=self._refresher.news, why=why, path="")
        return HTMLResponse(body, status)

    def _page(self, name: str, request: Request, *, status: int = 200, **values: Any) -> Response:
        body = self._templates.get_template(name).render(
            news=self._refresher.news, form_token=request.state.form_token, path=request.url.path, **values
        )
        return HTMLResponse(body, status)

    def _rows(self, query: Query) -> list[JobRow]:
        return [row(found) for found in self._refresher.index.jobs(query)]

    def _job(self, request: Request, job: str) -> Response:
        found = read_one(self._refresher.env, job)
        if found.stored is None:
            return self.trouble(503 if found.is_passing else 404, found.problem or "")
        record = found.stored.record
        happened, why_not = history.logs_or_why(self._logs, job)
        return self._page(
            "job.html",
            request,
            row=row(found),
            record=record,
            told=as_object(found.stored),
            age_s=found.stored.age_s,
            acts=[name for name, trigger in ACTS.items() if is_legal(record.state, trigger)],
            taken=history.way(record, happened),
            here=record.state,
            bars=history.bars(record, happened, self._refresher.env.clock.now()),
            events=sorted(happened, key=lambda one: one.at, reverse=True)[:MOST_EVENTS],
            saved=history.checkpoints(happened)[::-1][:PAGE],
            why_not=why_not,
        )

    def _plot(self, job: str) -> Response:
        found = read_one(self._refresher.env, job)
        if found.stored is None:
            return JSONResponse({"problem": found.problem}, 503 if found.is_passing else 404)
        happened, _ = history.logs_or_why(self._logs, job)
        points = history.progress_plot(found.stored.record, happened)
        saved = history.checkpoints(happened)
        return JSONResponse(
            {
                "total": found.stored.record.progress.total,
                "progress": list(zip(*points, strict=True)),
                "checkpoints": [
                    [one.at.timestamp() for one in saved],
                    [one.number("bytes") for one in saved],
                    [one.number("sent") for one in saved],
                ],
            }
        )

    def _confirm(self, request: Request, job: str, act: str, *, status: int = 200, problem: str = "") -> Response:
        found = read_one(self._refresher.env, job)
        if found.stored is None:
            return self.trouble(503 if found.is_passing else 404, found.problem or "")
        record = found.stored.record
        owned = record.state in OWNED and not is_stale(found.stored)
        legal = is_legal(record.state, ACTS[act])
        return self._page(
            "confirm.html", request, status=status, record=record, act=act, owned=owned, legal=legal, problem=problem
        )

    def _act(self, request: Request, job: str, act: str, do: control.Act) -> Response:
        try:
            do(self._refresher.env, job)
        except HoldfastError as error:
            status = 503 if isinstance(error, RetryableError | ConfigError) else 409
            return self._confirm(request, job, act, status=status, problem=f"{job}: {error}")
        notification_policy = BackgroundTask(
            tell_quietly, self._refresher.env, [job]
        )  # a receiver may hang: the operator need not
        return RedirectResponse(f"/jobs/{job}", 303, background=notification_policy)


async def _in_thread(work: Callable[[], T]) -> T:
    """What reads the bucket or the index must not hold up the event loop."""
    return await anyio.to_thread.run_sync(work)
