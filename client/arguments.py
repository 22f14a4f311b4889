"""The arguments of every command."""

import argparse
from pathlib import Path
from typing import Any, Final

LAST_PORT: Final = 65535
MOST_DIGITS: Final = 15


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    from lifecycle import __version__

    top = argparse.ArgumentParser(
        prog="holdfast",
        description="Run long jobs to completion on machines that vanish without notice.",
        epilog="Settings come from the environment or a file, holdfast.toml; `holdfast settings` lists them.",
    )
    top.add_argument("--version", action="version", version=f"holdfast {__version__}")
    _add_config(top, None)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="run five jobs on two workers, and kill one worker")
    demo.add_argument("--cloud", action="store_true", help="use the configured queue and bucket")

    worker = commands.add_parser("worker", help="take and run jobs")
    worker.add_argument("--idle-exit", metavar="TIME", help="exit after being idle this long")
    worker.add_argument("--max-jobs", metavar="N", type=_count, help="exit after N attempts")

    upload = commands.add_parser("upload", help="upload inputs; each sub-folder of DIR is a job")
    upload.add_argument("directory", metavar="DIR", type=Path)
    upload.add_argument("--force", action="store_true", help="replace the input of unfinished jobs, too")

    submit = commands.add_parser("submit", help="submit jobs, by id or as the sub-folders of a folder")
    submit.add_argument("jobs", metavar="DIR|JOB", nargs="*")
    submit.add_argument(
        "--from", dest="file", metavar="FILE", type=Path, help='JSON lines {"job", "workload", "params", "labels"}'
    )
    submit.add_argument("--workload", metavar="NAME", default="series-sum", help="the jobs' workload (series-sum)")
    submit.add_argument("--param", metavar="NAME=VALUE", action="append", default=[], help="a parameter of the jobs")
    submit.add_argument("--label", metavar="NAME=VALUE", action="append", default=[], help="a label of the jobs")

    submit.add_argument("--no-input", action="store_true", help="the jobs need no input")

    _add_filters(commands.add_parser("status", help="list jobs and count them by state"))
    commands.add_parser("show", help="show one job: attempts, time, and all events").add_argument("job", metavar="JOB")
    _add_report(commands.add_parser("report", help="report useful time, losses and costs"))

    commands.add_parser("queue", help="count available, in-flight and delayed messages")
    commands.add_parser("storage", help="list what each job stores in the bucket")

    download = commands.add_parser("download", help="download outputs and logs, and verify each byte")
    download.add_argument("directory", metavar="DIR", type=Path)
    _add_selection(download)
    download.add_argument("--state", action="store_true", help="download the last checkpoint, too")

    logs = commands.add_parser("logs", help="print the events of a job's attempts, or its output")
    logs.add_argument("job", metavar="JOB")
    logs.add_argument("--epoch", metavar="N", type=_count, help="only attempt N")
    logs.add_argument("--console", action="store_true", help="print the workload's output instead of events")
    logs.add_argument("--follow", action="store_true", help="print the workload's output as it is written")

    rm = commands.add_parser("rm", help="remove whole jobs that are over: records, inputs, checkpoints, outputs, logs")
    _add_selection(rm)
    rm.add_argument("--yes", action="store_true", help="do not ask for confirmation")

    verify = commands.add_parser("verify", help="read checkpoints and results back, and verify each byte")
    _add_selection(verify)
    verify.add_argument("--checkpoint", metavar="N", type=_count, help="only checkpoint N")

    checkpoints = commands.add_parser("checkpoints", help="list the checkpoints of a job that are kept; pin them")
    checkpoints.add_argument("job", metavar="JOB")
    checkpoints.add_argument("--pin", metavar="N", type=_count, help="keep checkpoint N for good")
    checkpoints.add_argument("--unpin", metavar="N", type=_count, help="keep checkpoint N no longer")

    for name, text in (("cancel", "cancel jobs"), ("retry", "reopen failed or cancelled jobs")):
        control = commands.add_parser(name, help=text)
        _add_selection(control)
        if name == "retry":
            control.add_argument("--failed", action="store_true", help="only failed jobs; without JOB: all of them")
            origin = control.add_mutually_exclusive_group()
            origin.add_argument("--from-start", action="store_true", help="discard the checkpoints")
            origin.add_argument(
                "--from-checkpoint", metavar="previous|N", type=_checkpoint, help="go on from an earlier checkpoint"
            )

    _add_maintenance(commands)
    for name in (
        "submit",
        "status",
        "show",
        "checkpoints",
        "report",
        "queue",
        "storage",
        "reconcile",
        "archive",
        "states",
        "doctor",
        "settings",
    ):
        commands.choices[name].add_argument("--json", action="store_true", help="print JSON, one object per line")
    for command in commands.choices.values():
        _add_config(command, argparse.SUPPRESS)  # a default would hide the option before the command
    return top


def command_names() -> frozenset[str]:
    """Return the names of all commands."""
    actions = parser()._actions  # noqa: SLF001 - argparse has no public way
    return frozenset(name for action in actions if action.dest == "command" for name in action.choices or ())


def _add_config(command: argparse.ArgumentParser, default: str | None) -> None:
    command.add_argument(
        "--config", metavar="FILE", type=Path, default=default, help="settings file to use instead of holdfast.toml"
    )


def _add_maintenance(commands: Any) -> None:
    """Add the commands that maintain a queue and a bucket."""
    purge = commands.add_parser("purge", help="delete what Holdfast wrote under the prefix, or all messages")
    purge.add_argument("what", choices=("storage", "queue"))
    purge.add_argument("--yes", action="store_true", help="do not ask for confirmation")

    reconcile = commands.add_parser("reconcile", help="send a message for every unfinished job that has none")
    reconcile.add_argument("--older", metavar="TIME", default="1h", help="only jobs not changed for this long (1h)")
    reconcile.add_argument("--dry-run", action="store_true", help="only list the jobs")

    archive = commands.add_parser("archive", help="archive the records of jobs that have been over for long")
    archive.add_argument("--older", metavar="TIME", default="30d", help="only jobs over for this long (30d)")
    archive.add_argument("--dry-run", action="store_true", help="only list the jobs")

    states = commands.add_parser("states", help="print the state diagrams and tables")
    states.add_argument("--write", metavar="FILE", type=Path, help="write them to FILE")
    states.add_argument("--diagram", action="store_true", help="print only the diagrams, in Mermaid")

    _add_setup(commands.add_parser("setup", help="create or correct the queue and the bucket"))
    commands.add_parser("doctor", help="check for common mistakes, and print remedies")
    _add_dashboard(commands.add_parser("dashboard", help="serve the live web page of states, jobs and nodes"))
    _add_exporter(commands.add_parser("exporter", help="serve Prometheus metrics of queue, bucket and jobs"))
    commands.add_parser("settings", help="print each setting, its value and its origin")


def _add_selection(command: argparse.ArgumentParser) -> None:
    command.add_argument("jobs", metavar="JOB", nargs="*", help="job ids, and patterns such as 'md-*'")
    _add_label_filter(command)


def _add_label_filter(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-l", "--label", metavar="NAME=VALUE", action="append", default=[], help="only jobs with this label"
    )


def _add_filters(status: argparse.ArgumentParser) -> None:
    status.add_argument("jobs", metavar="JOB", nargs="*")
    status.add_argument("--state", metavar="STATE", action="append", default=[], help="only jobs in STATE")
    status.add_argument("--failed", action="store_true", help="only failed jobs")
    status.add_argument("--stale", action="store_true", help="only jobs whose owner's lease has expired")
    _add_label_filter(status)
    status.add_argument("--since", metavar="TIME", help="only jobs changed within TIME")
    status.add_argument("--archived", action="store_true", help="archived jobs instead of live ones")
    status.add_argument("--sort", metavar="BY", default="job", help="job, state, updated, progress or eta (job)")
    status.add_argument("--reverse", action="store_true", help="reverse the order")
    status.add_argument("--limit", metavar="N", type=_count, help="at most N jobs")
    status.add_argument("--watch", action="store_true", help="print again every two seconds")
    status.add_argument(
        "-o", "--output", metavar="FORM", help="wide: all columns at full width; name: job ids alone; json: as --json"
    )


def _add_report(report: argparse.ArgumentParser) -> None:
    report.add_argument("--by", metavar="WHAT", default="all", help="add up by job, node, kind or workload (all)")
    _add_label_filter(report)
    report.add_argument("--since", metavar="TIME", help="only jobs changed within TIME")
    report.add_argument(
        "--price",
        metavar="[KIND=]PRICE",
        action="append",
        default=[],
        help="price per hour, of a NODE_KIND or of all",
    )
    report.add_argument(
        "--call-price",
        metavar="KIND=PRICE",
        action="append",
        default=[],
        help="price per million calls: queue, write or read",
    )
    report.add_argument("--archived", action="store_true", help="include archived jobs")
    report.add_argument("--csv", metavar="FILE", type=Path, help="also write the report to FILE")
    report.add_argument("--plot", metavar="FILE", type=Path, help="also draw the report to FILE, in SVG")


def _add_setup(setup: argparse.ArgumentParser) -> None:
    setup.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    setup.add_argument("--dry-run", action="store_true", help="only show the changes")
    setup.add_argument("--policies", action="store_true", help="print the permissions that each role needs")


def _add_dashboard(dashboard: argparse.ArgumentParser) -> None:
    dashboard.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    dashboard.add_argument("--port", type=_port, default=8765, help="port to listen on (8765); 0: any free one")
    dashboard.add_argument("--token", help="token for visitors; DASHBOARD_TOKEN is safer, because `ps` shows arguments")
    dashboard.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="another host name that browsers may use",
    )


def _add_exporter(exporter: argparse.ArgumentParser) -> None:
    exporter.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    exporter.add_argument("--port", type=_port, default=9471, help="port to listen on (9471); 0: any free one")
    exporter.add_argument("--every", metavar="TIME", default="15s", help="read the sources at most this often (15s)")


def _count(text: str) -> int:
    """Parse a whole number from 1 on."""
    if not (_is_number(text) and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def _port(text: str) -> int:
    """Parse a TCP port."""
    if not (_is_number(text) and int(text) <= LAST_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {LAST_PORT}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _checkpoint(text: str) -> str:
    """Parse the number of a checkpoint, or the word for the one before."""
    return text if text == "previous" else str(_count(text))
