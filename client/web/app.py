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
from client.web.refresher import Board
from client.web.security import Guard, Rules
from client.web.sse import Stream
from lifecycle import __version__
from lifecycle.errors import HoldfastError
from lifecycle.statechart import MEANINGS
from lifecycle.states import State

HERE: Final = Path(__file__).parent


def make_app(board: Board, rules: Rules) -> Starlette:
    """The application, ready to be served.

    Args:
        board: What it shows.
        rules: To whom.
    """
    pages, stream = Pages(board, rules, templates(board)), Stream(board)

    @asynccontextmanager
    async def keeping(_: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(board.keep)
            yield
            board.close()
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


def templates(board: Board) -> Environment:
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
        "meanings": MEANINGS,
        "states": list(State),
        "version": __version__,
        "where": where(board),
    }
    return made


def where(board: Board) -> str:
    """Which jobs are shown, in a word or two."""
    site = board.site
    parts = [site.bucket or str(site.settings.home), site.place.prefix]
    return "/".join(part for part in parts if part)
