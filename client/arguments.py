"""What the command line takes: every command, with its arguments."""

import argparse
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from lifecycle import __version__

    top = argparse.ArgumentParser(
        prog="holdfast",
        description="Carry long jobs to their end on machines that vanish without notice.",
        epilog="Settings come from the environment or holdfast.toml: `holdfast settings` lists them.",
    )
    top.add_argument("--version", action="version", version=f"holdfast {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="five jobs, two workers, one killed: see it work")
    demo.add_argument("--cloud", action="store_true", help="on the queue and bucket of the settings")

    worker = commands.add_parser("worker", help="take jobs and carry them to their end")
    worker.add_argument("--idle-exit", metavar="TIME", help="end after so long without a job")
    worker.add_argument("--max-jobs", metavar="N", type=_count, help="end after so many attempts")

    upload = commands.add_parser("upload", help="upload inputs: each sub-folder of DIR is a job")
    upload.add_argument("directory", metavar="DIR", type=Path)
    upload.add_argument("--force", action="store_true", help="change the input of unfinished jobs too")

    submit = commands.add_parser("submit", help="submit jobs: a folder whose sub-folders are jobs, or job ids")
    submit.add_argument("jobs", metavar="DIR|JOB", nargs="*")
    submit.add_argument(
        "--from", dest="file", metavar="FILE", type=Path, help='JSON lines {"job", "workload", "params"}'
    )
    submit.add_argument("--workload", metavar="NAME", default="series-sum")
    submit.add_argument("--param", metavar="NAME=VALUE", action="append", default=[])

    submit.add_argument("--label", metavar="NAME=VALUE", action="append", default=[], help="to find them by")

    _add_filters(commands.add_parser("status", help="where the jobs stand"))
    commands.add_parser("show", help="all about one job, as a timeline").add_argument("job", metavar="JOB")
    _add_report(commands.add_parser("report", help="what the time went to: useful, or lost to what"))

    commands.add_parser("queue", help="how many messages are available, in flight, delayed")
    commands.add_parser("storage", help="what is in the bucket, by job")

    download = commands.add_parser("download", help="fetch outputs and logs, every hash verified")
    download.add_argument("directory", metavar="DIR", type=Path)
    download.add_argument("jobs", metavar="JOB", nargs="*")
    download.add_argument("--state", action="store_true", help="the last checkpoint as well")

    logs = commands.add_parser("logs", help="what a job's attempts did")
    logs.add_argument("job", metavar="JOB")
    logs.add_argument("--epoch", metavar="N", type=int, help="only attempt N")
    logs.add_argument("--console", action="store_true", help="what the workload wrote, instead")
    logs.add_argument(
        "--follow", action="store_true", help="what the workload writes, as it comes, until the job is over"
    )

    verify = commands.add_parser("verify", help="read checkpoints and results back, and prove every byte of them")
    verify.add_argument("jobs", metavar="JOB", nargs="+")

    for name, text in (("cancel", "end jobs"), ("retry", "open failed or cancelled jobs again")):
        control = commands.add_parser(name, help=text)
        control.add_argument("jobs", metavar="JOB", nargs="+")
        if name == "retry":
            control.add_argument("--from-start", action="store_true", help="forget the checkpoints")

    _add_keeping(commands)
    for name in (
        "submit",
        "status",
        "show",
        "report",
        "queue",
        "storage",
        "reconcile",
        "archive",
        "states",
        "doctor",
        "settings",
    ):
        commands.choices[name].add_argument("--json", action="store_true", help="for machines: JSON, one object a line")
    return top


def _add_keeping(commands: Any) -> None:
    """What keeps a place right, rather than a job."""
    purge = commands.add_parser("purge", help="remove everything under the prefix, or every message")
    purge.add_argument("what", choices=("storage", "queue"))
    purge.add_argument("--yes", action="store_true", help="do not ask")

    reconcile = commands.add_parser("reconcile", help="send a message for every unfinished job that has none")
    reconcile.add_argument("--older", metavar="TIME", default="1h", help="not touched for so long (1h)")
    reconcile.add_argument("--dry-run", action="store_true", help="only say which")

    archive = commands.add_parser("archive", help="move the records of jobs long over out of the live set")
    archive.add_argument("--older", metavar="TIME", default="30d", help="over for so long (30d)")
    archive.add_argument("--dry-run", action="store_true", help="only say which")

    states = commands.add_parser("states", help="the state diagram and its tables")
    states.add_argument("--write", metavar="FILE", type=Path)
    states.add_argument("--diagram", action="store_true", help="only the Mermaid text")

    _add_setup(commands.add_parser("setup", help="make the queue and the bucket, or make them right"))
    commands.add_parser("doctor", help="what is wrong with this place, and what to do about it")
    _add_dashboard(commands.add_parser("dashboard", help="the web page: states, jobs, nodes, live"))
    _add_exporter(commands.add_parser("exporter", help="metrics of queue, bucket and jobs, for Prometheus"))
    commands.add_parser("settings", help="every setting, its value, and where it came from")


def _add_filters(status: argparse.ArgumentParser) -> None:
    status.add_argument("jobs", metavar="JOB", nargs="*")
    status.add_argument("--state", metavar="STATE", action="append", default=[], help="only in this state, or these")
    status.add_argument("--failed", action="store_true", help="only those that failed")
    status.add_argument("--stale", action="store_true", help="only those whose owner's lease ran out")
    status.add_argument("--label", metavar="NAME=VALUE", action="append", default=[], help="only with this label")
    status.add_argument("--since", metavar="TIME", help="only those that something happened to within TIME")
    status.add_argument("--archived", action="store_true", help="those in the archive, instead of the live ones")
    status.add_argument("--sort", metavar="BY", default="job", help="by job, state, updated, progress or eta")
    status.add_argument("--reverse", action="store_true", help="the other way round")
    status.add_argument("--limit", metavar="N", type=_count, help="so many at most")
    status.add_argument("--watch", action="store_true", help="again every two seconds")


def _add_report(report: argparse.ArgumentParser) -> None:
    report.add_argument("--by", metavar="WHAT", default="all", help="a line for each job, node, kind or workload")
    report.add_argument("--label", metavar="NAME=VALUE", action="append", default=[], help="only with this label")
    report.add_argument("--since", metavar="TIME", help="only jobs that something happened to within TIME")
    report.add_argument(
        "--price", metavar="[KIND=]PRICE", action="append", default=[], help="of an hour, for this NODE_KIND or any"
    )
    report.add_argument(
        "--call-price",
        metavar="KIND=PRICE",
        action="append",
        default=[],
        help="of a million calls: queue, write or read",
    )
    report.add_argument("--archived", action="store_true", help="archived jobs too")
    report.add_argument("--csv", metavar="FILE", type=Path, help="write it there as well")
    report.add_argument("--plot", metavar="FILE", type=Path, help="draw it there as well: SVG")


def _add_setup(setup: argparse.ArgumentParser) -> None:
    setup.add_argument("--yes", action="store_true", help="do not ask")
    setup.add_argument("--dry-run", action="store_true", help="only show what would be done")
    setup.add_argument("--policies", action="store_true", help="print what each role's keys need, instead")


def _add_dashboard(dashboard: argparse.ArgumentParser) -> None:
    dashboard.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    dashboard.add_argument("--port", type=int, default=8765, help="where to listen (8765); 0: any that is free")
    dashboard.add_argument("--token", help="who looks must have it; better DASHBOARD_TOKEN, which `ps` does not show")
    dashboard.add_argument(
        "--allow-host", metavar="NAME", action="append", default=[], help="a name that browsers call it by"
    )


def _add_exporter(exporter: argparse.ArgumentParser) -> None:
    exporter.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    exporter.add_argument("--port", type=int, default=9471, help="where to listen (9471); 0: any that is free")
    exporter.add_argument("--every", metavar="TIME", default="15s", help="not read again before so long (15s)")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number
