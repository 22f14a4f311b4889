"""The dashboard as an ASGI application: its routes, and the globals and filters of its templates."""

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

from client.views.text import format_duration, format_size
from client.web.diagram import GROUPS, LAYOUTS, UNLABELLED, arrows
from client.web.pages import Pages
from client.web.refresher import Refresher
from client.web.security import SecurityMiddleware, SecurityRules
from client.web.sse import EventStream
from lifecycle import __version__
from lifecycle.errors import HoldfastError
from lifecycle.states import State
from lifecycle.states_page import STATE_NOTES

HERE: Final = Path(__file__).parent


def make_app(refresher: Refresher, rules: SecurityRules) -> Starlette:
    """Return the application, ready to be served.

    Args:
        refresher: The source of its data.
        rules: The rules that requests must satisfy.
    """
    pages, stream = Pages(refresher, rules, make_templates(refresher)), EventStream(refresher)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(refresher.run)
            yield
            refresher.close()
            group.cancel_scope.cancel()

    async def on_error(_: Request, error: Exception) -> Response:
        return pages.error(503, str(error))

    async def on_not_found(_: Request, __: Exception) -> Response:
        return pages.not_found()

    return Starlette(
        routes=[
            Route("/", pages.overview),
            Route("/jobs", pages.jobs),
            Route("/jobs/{job}", pages.job),
            Route("/jobs/{job}/plot.json", pages.plot),
            Route("/jobs/{job}/{action}", pages.confirm, methods=["GET"]),
            Route("/jobs/{job}/{action}", pages.act, methods=["POST"]),
            Route("/nodes", pages.nodes),
            Route("/events", stream.answer),
            Mount("/assets", StaticFiles(directory=HERE / "assets")),
        ],
        middleware=[Middleware(SecurityMiddleware, rules=rules)],
        exception_handlers={HoldfastError: on_error, 404: on_not_found},
        lifespan=lifespan,
    )


def make_templates(refresher: Refresher) -> Environment:
    """Return the templates; all text in them is escaped."""
    templates = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"size": format_size, "duration": format_duration}
    templates.globals |= {
        "arrows": arrows(),
        "groups": GROUPS,
        "layouts": LAYOUTS,
        "unlabelled": UNLABELLED,
        "meanings": STATE_NOTES,
        "states": list(State),
        "version": __version__,
        "location": location(refresher),
    }
    return templates


def location(refresher: Refresher) -> str:
    """Return the bucket or folder, and the prefix, of the jobs."""
    env = refresher.env
    parts = [env.bucket or str(env.settings.home), env.layout.prefix]
    return "/".join(part for part in parts if part)
