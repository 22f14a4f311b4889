"""The command line: parses the arguments, runs the command, and turns errors into exit codes.

A command's modules are imported only when it runs, so that `holdfast --help` and every other command start fast.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from client.arguments import parser
from client.views.output import complain, survive_any_encoding

if TYPE_CHECKING:
    from client.config.environment import Environment
    from client.config.settings import Settings
    from lifecycle.states import State

USAGE: Final = 2  # argparse's
CONFIG: Final = 78  # EX_CONFIG
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the entry point of `holdfast`.

    Args:
        argv: The arguments; None: those of this process.

    Returns:
        The exit code: 0, 1 if something was not done, 2 for a wrong command line, 78 for wrong settings, credentials,
        queue or bucket.
    """
    survive_any_encoding()
    args = parser().parse_args(argv)
    # A command reports its own errors on stderr. A worker has no command line to report to, and sets a lower level.
    logging.getLogger("holdfast").setLevel(logging.ERROR)
    from lifecycle.errors import ConfigError, HoldfastError, UsageError

    try:
        if args.config:
            from client.config.variables import choose_config

            choose_config(args.config)
        code = COMMANDS[args.command](args)
        sys.stdout.flush()  # so that a reader that has gone is noticed here, and not while the interpreter exits
    except (HoldfastError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        complain(_line(error))
        return USAGE if isinstance(error, UsageError) else CONFIG if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _line(error: Exception) -> str:
    """Return the error's message in one line, without secrets."""
    from client.config.secret_redaction import redact
    from lifecycle.errors import reason_of

    return redact(" ".join(reason_of(error).split()))


def _settings() -> "Settings":
    from client.config.settings import current_settings

    return current_settings()


def _env() -> "Environment":
    from client.config.composition import open_environment

    return open_environment(_settings())


def _named(env: "Environment") -> "Environment":
    """Say on stderr, where it disturbs neither JSON nor a pipe, which queue and bucket the command works on."""
    complain(env.place)
    return env


def _selected(env: "Environment", args: argparse.Namespace, among: "Collection[State]" = ()) -> list[str]:
    """Return the jobs that the arguments name; see `select`."""
    from client.records.query import parse_label
    from client.records.selection import Selection, select
    from lifecycle.states import State

    states = [State.FAILED] if getattr(args, "failed", False) else []
    return select(env, Selection(args.jobs, dict(map(parse_label, args.label)), states), among=among)


def _duration(option: str, text: str) -> timedelta:
    """Parse the value of an option.

    Raises:
        UsageError: It is not a duration; the message names the option.
    """
    from lifecycle.durations import parse
    from lifecycle.errors import UsageError

    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from error


def _run_archive(args: argparse.Namespace) -> int:
    from client.commands import archive

    older = _duration("--older", args.older)
    return archive.run(_env(), older=older, dry_run=args.dry_run, as_json=args.json)


def _run_cancel(args: argparse.Namespace) -> int:
    from client.commands import cancel

    env = _env()
    return cancel.run(env, _selected(env, args, cancel.AMONG))


def _run_checkpoints(args: argparse.Namespace) -> int:
    from client.commands import checkpoints

    return checkpoints.run(_env(), args.job, pin=args.pin, unpin=args.unpin, as_json=args.json)


def _run_dashboard(args: argparse.Namespace) -> int:
    from client.commands import dashboard

    dashboard.check_extra()
    return dashboard.run(_env(), host=args.host, port=args.port, token=args.token, names=args.allow_host)


def _run_demo(args: argparse.Namespace) -> int:
    from client.commands import demo

    return demo.run(cloud=args.cloud)


def _run_doctor(args: argparse.Namespace) -> int:
    from client.commands import doctor

    return doctor.run(_env(), as_json=args.json)


def _run_download(args: argparse.Namespace) -> int:
    from client.commands import download

    env = _env()
    jobs = _selected(env, args) if args.jobs or args.label else []
    return download.run(env, args.directory, jobs, state=args.state)


def _run_exporter(args: argparse.Namespace) -> int:
    from client.commands import exporter

    return exporter.run(_env(), host=args.host, port=args.port, every=_duration("--every", args.every))


def _run_logs(args: argparse.Namespace) -> int:
    from client.commands import logs

    return logs.run(_env(), args.job, console=args.console or args.follow, epoch=args.epoch, follow=args.follow)


def _run_purge(args: argparse.Namespace) -> int:
    from client.commands import purge

    return purge.run(_env(), args.what, yes=args.yes)


def _run_queue(args: argparse.Namespace) -> int:
    from client.commands import queue

    return queue.run(_env(), as_json=args.json)


def _run_reconcile(args: argparse.Namespace) -> int:
    from client.commands import reconcile

    older = _duration("--older", args.older)
    return reconcile.run(_env(), older=older, dry_run=args.dry_run, as_json=args.json)


def _run_report(args: argparse.Namespace) -> int:
    from client.commands import report
    from client.records.query import parse_query
    from client.views.report import parse_hourly_prices
    from client.views.request_costs import parse_request_prices

    return report.run(
        _env(),
        parse_query(labels=args.label, since=args.since),
        by=args.by,
        hourly_prices=parse_hourly_prices(args.price),
        as_json=args.json,
        file=args.csv,
        plot=args.plot,
        archived=args.archived,
        request_prices=parse_request_prices(args.call_price),
    )


def _run_retry(args: argparse.Namespace) -> int:
    from client.commands import retry

    env = _env()
    found = _selected(env, args, retry.AMONG)
    return retry.run(env, found, from_start=args.from_start, from_checkpoint=args.from_checkpoint)


def _run_rm(args: argparse.Namespace) -> int:
    from client.commands import rm

    env = _env()
    return rm.run(env, _selected(env, args, rm.AMONG), yes=args.yes)


def _run_settings(args: argparse.Namespace) -> int:
    from client.commands import settings

    return settings.run(_settings(), as_json=args.json)


def _run_setup(args: argparse.Namespace) -> int:
    from client.commands import setup

    if args.policies:
        return setup.print_policies(_settings())
    return setup.run(_settings(), yes=args.yes, dry_run=args.dry_run)


def _run_show(args: argparse.Namespace) -> int:
    from client.commands import show

    return show.run(_env(), args.job, as_json=args.json)


def _run_states(args: argparse.Namespace) -> int:
    from client.commands import states

    return states.run(write=args.write, as_json=args.json, diagram=args.diagram)


def _run_status(args: argparse.Namespace) -> int:
    from client.commands import status
    from client.records.query import parse_query

    query = parse_query(
        states=[*args.state, *(["failed"] if args.failed else [])],
        stale=args.stale,
        labels=args.label,
        since=args.since,
        sort=args.sort,
        reverse=args.reverse,
        limit=args.limit,
    )
    return status.run(
        _named(_env()),
        args.jobs,
        query,
        as_json=args.json,
        watch=args.watch,
        archived=args.archived,
        output=args.output,
    )


def _run_storage(args: argparse.Namespace) -> int:
    from client.commands import storage

    return storage.run(_env(), as_json=args.json)


def _run_submit(args: argparse.Namespace) -> int:
    from client.commands import submit

    problems: list[str] = []
    requests = submit.read_requests(
        args.jobs,
        file=args.file,
        workload=args.workload,
        params=args.param,
        labels=args.label,
        problems=problems,
    )
    env = _named(_env())
    return submit.run(env, requests, as_json=args.json, needs_input=not args.no_input, problems=problems)


def _run_upload(args: argparse.Namespace) -> int:
    from client.commands import upload

    return upload.run(_env(), args.directory, force=args.force)


def _run_verify(args: argparse.Namespace) -> int:
    from client.commands import verify

    env = _env()
    return verify.run(env, _selected(env, args), checkpoint=args.checkpoint)


def _run_worker(args: argparse.Namespace) -> int:
    from client.commands import worker

    idle_exit = _duration("--idle-exit", args.idle_exit) if args.idle_exit else None
    from client.config.composition import open_environment

    env = open_environment(_settings(), needs_bucket=False)
    return worker.run(env, idle_exit=idle_exit, max_jobs=args.max_jobs)


COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "archive": _run_archive,
    "cancel": _run_cancel,
    "checkpoints": _run_checkpoints,
    "dashboard": _run_dashboard,
    "demo": _run_demo,
    "doctor": _run_doctor,
    "download": _run_download,
    "exporter": _run_exporter,
    "logs": _run_logs,
    "purge": _run_purge,
    "queue": _run_queue,
    "reconcile": _run_reconcile,
    "report": _run_report,
    "retry": _run_retry,
    "rm": _run_rm,
    "settings": _run_settings,
    "setup": _run_setup,
    "show": _run_show,
    "states": _run_states,
    "status": _run_status,
    "storage": _run_storage,
    "submit": _run_submit,
    "upload": _run_upload,
    "verify": _run_verify,
    "worker": _run_worker,
}

if __name__ == "__main__":
    sys.exit(main())
