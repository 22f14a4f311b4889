"""The page as an ASGI application: its addresses, and what all its templates share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from client.commands.status import duration
from client.commands.storage import human
from client.web.diagram import GROUPS, LAYOUTS, SILENT, arrows
from client.web.pages import Pages
from client.web.refresher import Refresher
from client.web.security import Guard, Rules
from client.web.sse import EventStream
from lifecycle import __version__
from lifecycle.errors import HoldfastError
from lifecycle.states import State
from lifecycle.states_page import STATE_NOTES

HERE: Final = Path(__file__).parent


def make_app(refresher: Refresher, rules: Rules) -> Starlette:
    """The application, ready to be served.

    Args:
        refresher: What it shows.
        rules: To whom.
    """
    pages, stream = Pages(refresher, rules, templates(refresher)), EventStream(refresher)

    @asynccontextmanager
    async def keeping(_: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(refresher.keep)
            yield
            refresher.close()
            group.cancel_scope.cancel()

    async def trouble(_: Request, error: Exception) -> Response:
        return pages.trouble(503, str(error))

    async def nowhere(_: Request, __: Exception) -> Response:
        return pages.trouble(404, "There is no such page.")

    return Starlette(
        routes=[
            Route("/", pages.overview),
            Route("/jobs", pages.jobs),
            Route("/jobs/{job}", pages.job),
            Route("/jobs/{job}/plot.json", pages.plot),
            Route("/jobs/{job}/{act}", pages.confirm, methods=["GET"]),
            Route("/jobs/{job}/{act}", pages.act, methods=["POST"]),
            Route("/nodes", pages.nodes),
            Route("/events", stream.answer),
            Mount("/assets", StaticFiles(directory=HERE / "assets")),
        ],
        middleware=[Middleware(Guard, rules=rules)],
        exception_handlers={HoldfastError: trouble, 404: nowhere},
        lifespan=keeping,
    )


def templates(refresher: Refresher) -> Environment:
    """The templates; every text that they show is escaped."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"human": human, "lasting": duration}
    made.globals |= {
        "arrows": arrows(),
        "groups": GROUPS,
        "layouts": LAYOUTS,
        "silent": SILENT,
        "meanings": STATE_NOTES,
        "states": list(State),
        "version": __version__,
        "where": where(refresher),
    }
    return made


def where(refresher: Refresher) -> str:
    """Which jobs are shown, in a word or two."""
    env = refresher.env
    parts = [env.bucket or str(env.settings.home), env.layout.prefix]
    return "/".join(part for part in parts if part)
