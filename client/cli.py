"""The command line: finds the command, runs it, and turns errors into one line and an exit code.

A command's module is imported only when it runs, so that `holdfast --help` and every other command start fast.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
from click.exceptions import Exit, NoArgsIsHelpError

from client.options import common_options
from client.views.output import complain, survive_any_encoding

WRONG_USE: Final = 2
CONFIG: Final = 78  # EX_CONFIG
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

SECTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "Run jobs": {
        "demo": "Run five jobs on two workers, and kill one worker.",
        "upload": "Upload inputs; each sub-folder of DIR is a job.",
        "submit": "Submit jobs, by id or as the sub-folders of a folder.",
        "worker": "Take and run jobs.",
    },
    "Watch them": {
        "status": "List jobs and count them by state.",
        "show": "Tell the story of one job.",
        "logs": "Print the events of a job's attempts, or its output.",
        "report": "Report useful time, losses and costs.",
        "dashboard": "Serve the live web page of states, jobs and nodes.",
        "exporter": "Serve Prometheus metrics of queue, bucket and jobs.",
    },
    "Change them": {
        "cancel": "Cancel jobs.",
        "retry": "Reopen failed or cancelled jobs.",
        "rm": "Remove whole jobs that are over.",
    },
    "Use their results": {
        "download": "Download outputs and logs, and verify each byte.",
        "checkpoints": "List the checkpoints of a job that are kept; pin them.",
        "verify": "Read checkpoints and results back, and verify each byte.",
        "storage": "List what each job stores in the bucket.",
    },
    "Operate queue and bucket": {
        "setup": "Create or correct the queue and the bucket.",
        "doctor": "Check for common mistakes, and print remedies.",
        "queue": "Count available, in-flight and delayed messages.",
        "reconcile": "Send a message for every unfinished job that has none.",
        "archive": "Archive the records of jobs that have been over for long.",
        "purge": "Delete what Holdfast wrote under the prefix, or all messages.",
    },
    "Learn": {
        "help": "Show the help of a command.",
        "settings": "Print each setting, its value and its origin.",
        "states": "Print the state diagrams and tables.",
        "completion": "Print the script that completes words in a shell.",
    },
}
"""The commands, with the first line of their help."""
SUMMARIES: Final = {name: text for section in SECTIONS.values() for name, text in section.items()}


class Holdfast(click.Group):
    """All commands; the module of one is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's form
        """Return the names of all commands."""
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's form
        """Import the command *cmd_name*; return None if there is none."""
        if cmd_name == "help":
            return help_command
        if cmd_name not in SUMMARIES:
            return None
        found: click.Command = importlib.import_module(f"client.commands.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that *args* begin with.

        Raises:
            UsageError: There is none; the error names similar ones.
        """
        if args[0] in SUMMARIES or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches

        similar = get_close_matches(args[0], SUMMARIES, 1)
        guess = f"did you mean `holdfast {similar[0]}`?" if similar else "`holdfast --help` lists the commands"
        raise click.UsageError(f"there is no command {args[0]!r}: {guess}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's form
        """Write the commands by section; no command is imported for that."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()), col_max=12)


@click.command("help")
@click.argument("name", metavar="[COMMAND]", required=False)
@click.pass_context
def help_command(context: click.Context, name: str | None) -> int:
    """Show the help of a command, or of all commands."""
    parent = context.parent or context
    _, found, _ = HOLDFAST.resolve_command(parent, [name]) if name else (None, HOLDFAST, [])
    if found is HOLDFAST or found is None:
        click.echo(HOLDFAST.get_help(parent))
    else:
        click.echo(found.get_help(click.Context(found, parent, name, **found.context_settings)))
    return 0


def _version(context: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's form
    if value:
        from lifecycle import __version__

        click.echo(f"holdfast {__version__}")
        context.exit()


HOLDFAST: Final = Holdfast(
    "holdfast",
    help="Run long jobs to completion on machines that vanish without notice.",
    epilog="`holdfast help COMMAND` explains a command. Settings come from the environment or a file, holdfast.toml;"
    " `holdfast settings` lists them.",
    params=[
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
        ),
        *common_options(),
    ],
    context_settings={"max_content_width": 100},
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the entry point of `holdfast`.

    Args:
        argv: The arguments; None: those of this process.

    Returns:
        The exit code: 0, 1 if something was not done, 2 for a wrong command line, 78 for wrong settings, credentials,
        queue or bucket.
    """
    survive_any_encoding()
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # so that a reader that has gone is noticed here, and not while the interpreter exits
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def _run(arguments: list[str]) -> int:
    """Run the command that *arguments* name, and return its exit code; print any error as one line."""
    try:
        with HOLDFAST.make_context("holdfast", arguments) as context:
            code: Any = HOLDFAST.invoke(context)
    except Exit as ended:
        return ended.exit_code
    except NoArgsIsHelpError as error:
        complain(f"a command is missing: `{error.ctx.command_path if error.ctx else 'holdfast'} --help` lists them")
        return WRONG_USE
    except click.UsageError as error:
        complain(_of_use(error))
        return WRONG_USE
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the errors of Holdfast are imported only if there is one
        return _of_command(error)
    return int(code or 0)


def _of_use(error: click.UsageError) -> str:
    """Return the line for a wrong command line: what is wrong, and where to read more."""
    said = " ".join(error.format_message().split()).rstrip(".")
    if type(error) is click.BadParameter and error.param is not None:
        name = error.param.opts[-1] if isinstance(error.param, click.Option) else error.param.human_readable_name
        said = f"{name}: {' '.join(error.message.split())}".rstrip(".")
    else:
        said = said[:1].lower() + said[1:]
    path = error.ctx.command_path if error.ctx else "holdfast"
    return said if "`" in said else f"{said}; see `{path} --help`"


def _of_command(error: Exception) -> int:
    """Print an error of a command, without secrets, and return its exit code.

    Raises:
        Exception: It is none that commands are expected to raise.
    """
    from client.config.secret_redaction import redact
    from lifecycle.errors import ConfigError, HoldfastError, UsageError, reason_of

    if not isinstance(error, HoldfastError | OSError):
        raise error
    complain(redact(" ".join(reason_of(error).split())))
    if isinstance(error, UsageError):
        return WRONG_USE
    return CONFIG if isinstance(error, ConfigError) else 1


def complete(instruction: str) -> int:
    """Print what a shell asks for to complete a command line, such as `bash_complete`."""
    from click.shell_completion import shell_complete

    return shell_complete(HOLDFAST, {}, "holdfast", "_HOLDFAST_COMPLETE", instruction)


if __name__ == "__main__":
    sys.exit(main())
