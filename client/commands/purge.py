"""`holdfast purge storage|queue`: delete what Holdfast wrote under the prefix, or all messages, after asking."""

from itertools import islice
from typing import Final

import click

from client import options
from client.config.environment import Environment
from client.operations.purging import PurgePlan, carry_out, plan_purge
from client.views.output import say
from client.views.progress import progress_bar
from client.views.prompt import confirm
from client.views.text import format_size

NAMED: Final = 10  # folders that are named among those left


def run(env: Environment, what: str, *, yes: bool) -> int:
    """Purge *what*, `storage` or `queue`.

    Returns:
        0; 1 if the answer was no.

    Raises:
        ConfigError: There is no terminal to ask on, and *yes* is not set.
    """
    return purge_storage(env, yes=yes) if what == "storage" else purge_queue(env, yes=yes)


def purge_storage(env: Environment, *, yes: bool) -> int:
    """Remove everything that Holdfast wrote under the prefix, and name what is left.

    Returns:
        0; 1 if the answer was no.
    """
    plan = plan_purge(env)
    prefix = env.layout.under("")
    where = f"{env.bucket or env.settings.home}/{prefix}"
    ours = [*plan.records, *plan.others]
    size = format_size(sum(one.size_bytes for one in ours))
    left = _left(plan)
    question = f"delete {len(ours)} objects ({size}) of {len(plan.jobs)} jobs under {where}?"
    if not (yes or confirm(f"{left}\n{question}" if left else question)):
        return 1
    with progress_bar("deleting", len(ours)) as advance:
        carry_out(env, plan, advance)
    say(f"deleted {len(ours)} objects, {size}")
    if left:
        say(left)
    return 0


def _left(plan: PurgePlan) -> str:
    """Return a line that says what is left in the bucket; empty if nothing is."""
    if not plan.left:
        return ""
    folders = plan.left_by_folder()
    named = ", ".join(f"{name} ({count})" for name, count in islice(folders.items(), NAMED))
    more = f", and {len(folders) - NAMED} more" if len(folders) > NAMED else ""
    return f"{len(plan.left)} objects are left, which no job under this prefix owns: {named}{more}"


def purge_queue(env: Environment, *, yes: bool) -> int:
    """Delete every message, in flight or not."""
    depth = env.queue.depth()
    total = depth.available + depth.in_flight + depth.delayed
    if not (yes or confirm(f"delete all messages (about {total})?")):
        return 1
    env.queue.purge()
    say("queue purged; unfinished jobs keep their records: `holdfast reconcile --older 0` sends new messages")
    return 0


@options.command(
    "purge",
    ("holdfast purge queue", "Delete all messages; records and files stay."),
    ("holdfast purge storage", "Delete all records, checkpoints, outputs and logs under the prefix."),
)
@click.argument("what", metavar="{storage|queue}", type=click.Choice(["storage", "queue"]))
@options.yes_option
def command(*, what: str, yes: bool) -> int:
    """Delete what Holdfast wrote under the prefix, or all messages."""
    return run(options.environment(), what, yes=yes)
