"""The command line. Every command imports what it needs only when it runs, so `holdfast --help` costs nothing."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from client.arguments import parser

if TYPE_CHECKING:
    from client.config.composition import Environment

CONFIG: Final = 78  # EX_CONFIG
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the installed `holdfast` calls this.

    Returns:
        The exit code: 0, 1 if something went wrong, 2 for a wrong command line, 78 for wrong settings.
    """
    args = parser().parse_args(argv)
    # A command says itself what went wrong; the worker, which has no command line to answer to, logs more.
    logging.getLogger("holdfast").setLevel(logging.ERROR)
    from lifecycle.errors import ConfigError, HoldfastError

    try:
        code = int(globals()[f"_{args.command}"](args))
        sys.stdout.flush()  # so that a reader who has gone is noticed here, and not in the interpreter's last moments
    except ConfigError as error:
        print(f"holdfast: {_line(error)}", file=sys.stderr)
        return CONFIG
    except HoldfastError as error:
        print(f"holdfast: {_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        print(f"holdfast: {_line(error)}", file=sys.stderr)
        return 1
    return code


def _line(error: Exception) -> str:
    from client.config.secret_redaction import masked

    return masked(" ".join(str(error).split()))


def _env() -> "Environment":
    from client.config.composition import open_environment
    from client.config.settings import current

    return open_environment(current())


def _demo(args: argparse.Namespace) -> int:
    from client.commands import demo

    return demo.run(cloud=args.cloud)


def _worker(args: argparse.Namespace) -> int:
    from client.commands import worker
    from lifecycle.durations import parse
    from lifecycle.errors import ConfigError

    try:
        idle_exit = parse(args.idle_exit) if args.idle_exit else None
    except ValueError as error:
        raise ConfigError(f"--idle-exit {error}") from error
    return worker.run(_env(), idle_exit=idle_exit, max_jobs=args.max_jobs)


def _upload(args: argparse.Namespace) -> int:
    from client.commands import upload

    return upload.run(_env(), args.directory, force=args.force)


def _submit(args: argparse.Namespace) -> int:
    from client.commands import submit

    orders = submit.read_orders(args.jobs, file=args.file, workload=args.workload, params=args.param, labels=args.label)
    return submit.run(_env(), orders, as_json=args.json)


def _status(args: argparse.Namespace) -> int:
    from client.commands import status

    query = status.query(
        states=[*args.state, *(["failed"] if args.failed else [])],
        stale=args.stale,
        labels=args.label,
        since=args.since,
        sort=args.sort,
        backwards=args.reverse,
        limit=args.limit,
    )
    return status.run(_env(), args.jobs, query, as_json=args.json, watch=args.watch, archived=args.archived)


def _show(args: argparse.Namespace) -> int:
    from client.commands import show

    return show.run(_env(), args.job, as_json=args.json)


def _report(args: argparse.Namespace) -> int:
    from client.commands import report, status
    from client.views import request_costs as calls

    return report.run(
        _env(),
        status.query(labels=args.label, since=args.since),
        by=args.by,
        given=report.prices(args.price),
        as_json=args.json,
        file=args.csv,
        plot=args.plot,
        archived=args.archived,
        call_prices=calls.prices(args.call_price),
    )


def _queue(args: argparse.Namespace) -> int:
    from client.commands import storage

    return storage.run_queue(_env(), as_json=args.json)


def _storage(args: argparse.Namespace) -> int:
    from client.commands import storage

    return storage.run(_env(), as_json=args.json)


def _download(args: argparse.Namespace) -> int:
    from client.commands import download

    return download.run(_env(), args.directory, args.jobs, state=args.state)


def _logs(args: argparse.Namespace) -> int:
    from client.commands import logs

    return logs.run(_env(), args.job, console=args.console or args.follow, epoch=args.epoch, follow=args.follow)


def _verify(args: argparse.Namespace) -> int:
    from client.commands import verify

    return verify.run(_env(), args.jobs)


def _cancel(args: argparse.Namespace) -> int:
    from client.operations import job_control as control

    return control.run(_env(), args.jobs, control.cancel)


def _retry(args: argparse.Namespace) -> int:
    from client.operations import job_control as control

    return control.run(_env(), args.jobs, control.retry_from_start if args.from_start else control.retry)


def _purge(args: argparse.Namespace) -> int:
    from client.commands import purge

    return purge.run(_env(), args.what, yes=args.yes)


def _reconcile(args: argparse.Namespace) -> int:
    from client.commands import reconcile
    from lifecycle.durations import parse
    from lifecycle.errors import ConfigError

    try:
        older = parse(args.older)
    except ValueError as error:
        raise ConfigError(f"--older {error}") from error
    return reconcile.run(_env(), older=older, dry_run=args.dry_run, as_json=args.json)


def _archive(args: argparse.Namespace) -> int:
    from client.commands import archive
    from lifecycle.durations import parse
    from lifecycle.errors import ConfigError

    try:
        older = parse(args.older)
    except ValueError as error:
        raise ConfigError(f"--older {error}") from error
    return archive.run(_env(), older=older, dry_run=args.dry_run, as_json=args.json)


def _states(args: argparse.Namespace) -> int:
    from client.commands import states

    return states.run(write=args.write, as_json=args.json, diagram=args.diagram)


def _setup(args: argparse.Namespace) -> int:
    from client.commands import setup
    from client.config.settings import current

    settings = current()
    return setup.print_policies(settings) if args.policies else setup.run(settings, yes=args.yes, dry_run=args.dry_run)


def _doctor(args: argparse.Namespace) -> int:
    from client.commands import doctor

    return doctor.run(_env(), as_json=args.json)


def _dashboard(args: argparse.Namespace) -> int:
    from client.commands import dashboard

    dashboard.check_extra()
    return dashboard.run(_env(), host=args.host, port=args.port, token=args.token, names=args.allow_host)


def _exporter(args: argparse.Namespace) -> int:
    from client.commands import exporter
    from lifecycle.durations import parse
    from lifecycle.errors import ConfigError

    try:
        every = parse(args.every)
    except ValueError as error:
        raise ConfigError(f"--every {error}") from error
    return exporter.run(_env(), host=args.host, port=args.port, every=every)


def _settings(args: argparse.Namespace) -> int:
    from client.config.settings import current, print_all

    return print_all(current(), as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
