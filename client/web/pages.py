"""The pages of the dashboard: each is complete without JavaScript; its script only keeps it up to date."""

from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import anyio.to_thread
from attrs import evolve, frozen
from jinja2 import Environment
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from client.config.environment import Environment as JobEnvironment
from client.operations.job_control import JobAction, cancel, retry, retry_from_start
from client.operations.notices import deliver_after_change
from client.records.estimates import eta_s, is_stale, share_done
from client.records.query import ORDERS, Query
from client.records.reader import Lookup, read_job
from client.views.job_json import job_object
from client.views.job_story import started_from
from client.views.output import complain
from client.views.time_accounting import job_time
from client.web import history
from client.web.nodes import nodes_of
from client.web.refresher import Refresher
from client.web.security import SecurityRules, read_form
from lifecycle.errors import ConfigError, HoldfastError, RetryableError
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import OWNED, State, Trigger, is_legal

T = TypeVar("T")

PAGE: Final = 50
LATEST: Final = 10
MOST_EVENTS: Final = 200
LONGEST_TEXT: Final = 200
ACTIONS: Final = {"cancel": Trigger.CANCEL, "retry": Trigger.RETRY}


@frozen
class JobRow:
    """A row of a table of jobs.

    Attributes:
        job: The job's id.
        stored: Its record.
        problem: Why there is no record to show.
        stale: Its owner's lease has expired.
        share: Share of its work that is done; None if unknown.
        eta_s: Seconds to its end; None if unknown.
    """

    job: str
    stored: StoredRecord | None
    problem: str | None
    stale: bool
    share: float | None
    eta_s: float | None


def row(found: Lookup) -> JobRow:
    """Return the row of a job."""
    if found.stored is None:
        return JobRow(found.job, None, found.problem, stale=False, share=None, eta_s=None)
    record = found.stored.record
    share = share_done(record.progress)
    stale, left = is_stale(found.stored), eta_s(record)
    eta = None if left is None or stale else max(left - (found.stored.age_s or 0.0), 0.0)
    return JobRow(found.job, found.stored, found.problem, stale, share, eta)


@frozen
class JobFilter:
    """The jobs that a page shows, as its address says."""

    state: State | None
    stale: bool
    text: str
    sort: str
    reverse: bool
    page: int

    @classmethod
    def of(cls, request: Request) -> "JobFilter":
        """Read the filter from the address; invalid parts are ignored."""
        given = request.query_params
        state, sort, page = given.get("state", ""), given.get("sort", ""), given.get("page", "")
        return cls(
            state=State(state) if state in {one.value for one in State} else None,
            stale=bool(given.get("stale")),
            text=given.get("text", "").strip()[:LONGEST_TEXT],
            sort=sort if sort in ORDERS else "job",
            reverse=bool(given.get("reverse")),
            page=int(page) if page.isascii() and page.isdigit() and 0 < len(page) < 10 else 1,  # noqa: PLR2004 - pages
        )

    def query(self) -> Query:
        """Return the query for one page."""
        return Query(
            states=(self.state,) if self.state else (),
            stale=self.stale,
            text=self.text,
            sort=self.sort,
            reverse=self.reverse,
            limit=PAGE,
            offset=(max(self.page, 1) - 1) * PAGE,
        )

    def address(self, **changes: Any) -> str:
        """Return the address of the same page with *changes*."""
        now = evolve(self, **changes)
        parts = {
            "state": now.state.value if now.state else "",
            "stale": "1" if now.stale else "",
            "text": now.text,
            "sort": "" if now.sort == "job" else now.sort,
            "reverse": "1" if now.reverse else "",
            "page": "" if now.page <= 1 else str(now.page),
        }
        words = urlencode({name: text for name, text in parts.items() if text})
        return f"/jobs?{words}" if words else "/jobs"

    def sorted_by(self, sort: str) -> str:
        """Return the address of a column's heading: its order, or the reverse if the page is in that order already."""
        return self.address(sort=sort, reverse=sort == self.sort and not self.reverse, page=1)


class Pages:
    """The handlers of all pages.

    Args:
        refresher: The source of the data.
        rules: The rules that forms must satisfy.
        templates: The HTML templates.
    """

    def __init__(self, refresher: Refresher, rules: SecurityRules, templates: Environment) -> None:
        self._refresher = refresher
        self._rules = rules
        self._templates = templates
        self._logs = history.LogCache(refresher.env)

    async def overview(self, request: Request) -> Response:
        """Show the diagram with the number of jobs in each state, and the latest changes."""
        await self._refresher.fresh()
        query = Query(sort="updated", limit=LATEST)
        rows = await _in_thread(lambda: self._rows(query))
        return self._page("overview.html", request, rows=rows, taken=set(), here=None, choice=None)

    async def jobs(self, request: Request) -> Response:
        """Show a page of the jobs that the address selects."""
        await self._refresher.fresh()
        choice = JobFilter.of(request)
        total = await _in_thread(lambda: sum(self._refresher.index.count(choice.query()).values()))
        last = max(-(-total // PAGE), 1)
        choice = evolve(choice, page=min(choice.page, last))
        rows = await _in_thread(lambda: self._rows(choice.query()))
        return self._page("jobs.html", request, rows=rows, choice=choice, total=total, last=last)

    async def job(self, request: Request) -> Response:
        """Show one job, from its record."""
        job = request.path_params["job"]
        return await _in_thread(lambda: self._job(request, job))

    async def plot(self, request: Request) -> Response:
        """Return the data of a job's plots, as JSON."""
        job = request.path_params["job"]
        return await _in_thread(lambda: self._plot(job))

    async def nodes(self, request: Request) -> Response:
        """Show the nodes that own jobs."""
        await self._refresher.fresh()
        found = await _in_thread(lambda: nodes_of(self._refresher.index))
        return self._page("nodes.html", request, nodes=found)

    async def confirm(self, request: Request) -> Response:
        """Ask for confirmation of an action."""
        job, action = request.path_params["job"], request.path_params["action"]
        if action not in ACTIONS:
            return self.not_found()
        return await _in_thread(lambda: self._confirm(request, job, action))

    async def act(self, request: Request) -> Response:
        """Carry out a confirmed action, and return to the job."""
        job, action = request.path_params["job"], request.path_params["action"]
        if action not in ACTIONS:
            return self.not_found()
        fields = await read_form(request, self._rules)
        if isinstance(fields, Response):
            return fields
        do = cancel if action == "cancel" else retry_from_start if "from_start" in fields else retry
        return await _in_thread(lambda: self._act(request, job, action, do))

    def error(self, status: int, reason: str) -> Response:
        """Return a page that explains an error."""
        template = self._templates.get_template("error.html")
        return HTMLResponse(template.render(summary=self._refresher.summary, reason=reason, path=""), status)

    def not_found(self) -> Response:
        """Return the page for an unknown address."""
        return self.error(404, "There is no such page.")

    def _page(self, name: str, request: Request, *, status: int = 200, **values: Any) -> Response:
        body = self._templates.get_template(name).render(
            summary=self._refresher.summary, form_token=request.state.form_token, path=request.url.path, **values
        )
        return HTMLResponse(body, status)

    def _rows(self, query: Query) -> list[JobRow]:
        return [row(found) for found in self._refresher.index.jobs(query)]

    def _job(self, request: Request, job: str) -> Response:
        found = read_job(self._refresher.env, job)
        if found.stored is None:
            return self.error(503 if found.is_transient else 404, found.problem or "")
        record = found.stored.record
        events, log_problem = history.events_or_problem(self._logs, job)
        return self._page(
            "job.html",
            request,
            row=row(found),
            record=record,
            shown=job_object(found.stored),
            age_s=found.stored.age_s,
            time=job_time(record),
            started_from=started_from,
            actions=[name for name, trigger in ACTIONS.items() if is_legal(record.state, trigger)],
            taken=history.path(record, events),
            here=record.state,
            bars=history.attempt_bars(record, events, self._refresher.env.clock.now()),
            events=sorted(events, key=lambda one: one.at, reverse=True)[:MOST_EVENTS],
            saved=history.checkpoints(events)[::-1][:PAGE],
            log_problem=log_problem,
        )

    def _plot(self, job: str) -> Response:
        found = read_job(self._refresher.env, job)
        if found.stored is None:
            return JSONResponse({"problem": found.problem}, 503 if found.is_transient else 404)
        events, _ = history.events_or_problem(self._logs, job)
        points = history.progress_plot(found.stored.record, events)
        saved = history.checkpoints(events)
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

    def _confirm(self, request: Request, job: str, action: str, *, status: int = 200, problem: str = "") -> Response:
        found = read_job(self._refresher.env, job)
        if found.stored is None:
            return self.error(503 if found.is_transient else 404, found.problem or "")
        record = found.stored.record
        owned = record.state in OWNED and not is_stale(found.stored)
        legal = is_legal(record.state, ACTIONS[action])
        return self._page(
            "confirm.html",
            request,
            status=status,
            record=record,
            action=action,
            owned=owned,
            legal=legal,
            problem=problem,
        )

    def _act(self, request: Request, job: str, action: str, do: JobAction) -> Response:
        try:
            do(self._refresher.env, job)
        except HoldfastError as error:
            status = 503 if isinstance(error, RetryableError | ConfigError) else 409
            return self._confirm(request, job, action, status=status, problem=f"{job}: {error}")
        delivery = BackgroundTask(_deliver, self._refresher.env, job)  # so that a slow receiver does not delay the page
        return RedirectResponse(f"/jobs/{job}", 303, background=delivery)


def _deliver(env: JobEnvironment, job: str) -> None:
    """Deliver the notices of a job that was just changed; report failures on stderr."""
    for line in deliver_after_change(env, [job]):
        complain(line)


async def _in_thread(work: Callable[[], T]) -> T:
    """Run *work* in a thread: reading the bucket or the index must not block the event loop."""
    return await anyio.to_thread.run_sync(work)
