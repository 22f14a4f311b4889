"""The shared parts of all command lines: their form, their common options, and types of values.

Imported before a command is known, so it imports nothing but click.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from datetime import timedelta

    from client.config.environment import Environment
    from client.config.settings import Settings
    from lifecycle.states import State

MOST_COMPLETIONS: Final = 200
LAST_PORT: Final = 65535
MOST_DIGITS: Final = 15
HELP: Final = {"show_default": True, "max_content_width": 100}
Example = tuple[str, str]
"""A command line, and what it does."""


class HoldfastCommand(click.Command):
    """A command with examples, the common options, and defaults in its help.

    Args:
        examples: Shown at the end of the help.
        arguments: As for `click.Command`.
    """

    def __init__(self, *arguments: Any, examples: Sequence[Example] = (), **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.examples = examples
        self.params += common_options()

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. It reports its own errors on stderr; a worker has no terminal, and logs more."""
        import logging

        logger = logging.getLogger("holdfast")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.ERROR)
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's form
        """Write the examples."""
        with formatter.section("Examples"):
            for line, meaning in self.examples:
                formatter.write_text(f"$ {line}")
                with formatter.indentation():
                    formatter.write_text(meaning)


def command(name: str, *examples: Example) -> Callable[[Callable[..., int]], HoldfastCommand]:
    """Make a function the command *name*; its docstring is the help."""

    def decorate(function: Callable[..., int]) -> HoldfastCommand:
        return click.command(
            name,
            cls=HoldfastCommand,
            examples=examples,
            context_settings={"show_default": True, "max_content_width": 100},
        )(function)

    return decorate


# ---- common options ----


def common_options() -> list[click.Parameter]:
    """Return the options that every command has, and that may also come before its name."""
    return [
        click.Option(
            ["--config"],
            metavar="FILE",
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_choose_config,
            help="Use this settings file instead of holdfast.toml.",
        ),
        _switch("-q", "--quiet", callback=_be_quiet, help="Print results and errors only."),
        _switch("-v", "--verbose", callback=_be_verbose, help="Log what is done, on stderr."),
        _switch("--no-color", callback=_use_no_color, help="Print without colours, as with NO_COLOR=1."),
    ]


def _switch(*names: str, callback: Callable[..., None], **named: Any) -> click.Option:
    return click.Option([*names], is_flag=True, expose_value=False, callback=callback, **named)


def _choose_config(_context: click.Context, _option: click.Parameter, file: Path | None) -> None:
    if file is not None:
        from client.config.variables import choose_config

        choose_config(file)


def _be_quiet(_context: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's form
    if value:
        from client.views.output import be_quiet

        be_quiet()


def _be_verbose(_context: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's form
    if value:
        import logging

        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("holdfast").setLevel(logging.DEBUG)


def _use_no_color(_context: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's form
    if value:
        from client.config.variables import refuse_color

        refuse_color()


json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
yes_option: Final = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
dry_run_option: Final = click.option("--dry-run", is_flag=True, help="Only show what would be done.")
label_filter: Final = click.option(
    "-l", "--label", "labels", metavar="NAME=VALUE", multiple=True, help="Only jobs with this label; may be repeated."
)
since_option: Final = click.option("--since", metavar="TIME", help="Only jobs changed within TIME, such as 2h or 3d.")


# ---- types of values ----


class Duration(click.ParamType["timedelta"]):
    """A duration such as 90s, 15m, 2h or 30d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "timedelta":
        """Return the duration that *value* stands for."""
        from lifecycle.durations import parse

        try:
            return parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class WholeNumber(click.ParamType[int]):
    """A whole number in a range.

    Args:
        least: The least number that is allowed.
        most: The greatest; None: any that has few digits.
        wanted: What the number must be, for people.
    """

    name = "number"

    def __init__(self, least: int, most: int | None, wanted: str) -> None:
        self.least, self.most, self.wanted = least, most, wanted

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number that *value* stands for."""
        text = str(value)
        is_number = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
        if not (is_number and self.least <= int(text) and (self.most is None or int(text) <= self.most)):
            self.fail(f"{text!r} is not {self.wanted}", param, ctx)
        return int(text)


DURATION: Final = Duration()
COUNT: Final = WholeNumber(1, None, "a whole number, 1 or more")
PORT: Final = WholeNumber(0, LAST_PORT, f"a port from 0 to {LAST_PORT}")
FILE: Final = click.Path(path_type=Path)


def complete_jobs(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the ids of jobs that begin with *incomplete*: those that were read before, without asking the bucket."""
    try:
        from client.config.composition import open_environment
        from client.config.settings import current_settings
        from client.records.database import cache_path
        from client.records.query import Query, is_pattern
        from client.records.record_index import RecordIndex

        env = open_environment(current_settings())
        if is_pattern(incomplete):
            return []
        with RecordIndex(env, cache_path(env)) as index:
            if not env.settings.is_cloud:
                index.refresh()
            found = index.jobs(Query(names=[f"{incomplete}*"], limit=MOST_COMPLETIONS))
            return [CompletionItem(one.job, help=one.stored.record.state if one.stored else None) for one in found]
    except Exception:  # noqa: BLE001 - a shell that completes a word shows no errors
        return []


job_argument: Final = click.argument("job", metavar="JOB", shell_complete=complete_jobs)
jobs_argument: Final = click.argument("jobs", metavar="[JOB]...", nargs=-1, shell_complete=complete_jobs)


# ---- what commands work on ----


def settings() -> "Settings":
    """Return the settings of this process."""
    from client.config.settings import current_settings

    return current_settings()


def environment(*, named: bool = False, needs_bucket: bool = True) -> "Environment":
    """Return the queue and the bucket that the settings name.

    Args:
        named: Say on stderr, where it disturbs neither JSON nor a pipe, which queue and bucket these are.
        needs_bucket: As for `open_environment`.
    """
    from client.config.composition import open_environment
    from client.views.output import note

    env = open_environment(settings(), needs_bucket=needs_bucket)
    if named:
        note(env.place)
    return env


def selected(
    env: "Environment",
    jobs: Sequence[str],
    labels: Sequence[str],
    *,
    states: Sequence["State"] = (),
    among: Collection["State"] = (),
) -> list[str]:
    """Return the jobs that a command line names; see `select`."""
    from client.records.query import parse_label
    from client.records.selection import Selection, select

    return select(env, Selection(jobs, dict(map(parse_label, labels)), states), among=among)
