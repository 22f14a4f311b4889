"""`holdfast doctor`: check for common mistakes, and print a line with the remedy for each.

It takes no message, and deletes the objects that it writes.
"""

import json
from collections.abc import Iterator

from client import options
from client.config.environment import Environment
from client.operations.credential_checks import check_credentials
from client.operations.installation_checks import check_disk, check_packages, check_workloads
from client.operations.queue_checks import check_queue
from client.operations.store_checks import check_store
from client.views.check_result import CheckResult
from client.views.output import say


def run(env: Environment, *, as_json: bool) -> int:
    """Run all checks.

    Returns:
        0; 1 if a problem was found that would lose work or stop it.
    """
    problems = 0
    for result in check_everything(env):
        problems += result.ok is False
        if as_json:
            shown = {"what": result.subject, "ok": result.ok, "said": result.finding, "remedy": result.remedy}
            say(json.dumps(shown))
        else:
            say(result.line(), flush=True)
    if not as_json:
        say("no problems found" if not problems else f"{problems} problem{'s' if problems > 1 else ''} found")
    return int(bool(problems))


def check_everything(env: Environment) -> Iterator[CheckResult]:
    """Run all checks, and yield their results one by one."""
    yield check_packages()
    yield check_workloads(env)
    yield check_disk(env.settings.work_dir)
    yield from check_credentials(env.settings, env.clock)
    yield from check_queue(env)
    yield from check_store(env)


@options.command(
    "doctor",
    ("holdfast doctor", "Check the installation, and print a line with a remedy for each problem."),
    ("holdfast doctor --json", "Print the same for a script."),
)
@options.json_option
def command(*, as_json: bool) -> int:
    """Check for common mistakes, and print remedies.

    It checks keys, queue, dead letters, bucket, checksums, speed, clock, disk and packages. It exits with 1 if anything
    that it finds could lose work.
    """
    return run(options.environment(), as_json=as_json)
