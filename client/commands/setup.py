"""`holdfast setup`: create or correct the queue, its dead-letter queue and the bucket, after showing the changes."""

import json

import click

from client import options
from client.config.composition import open_admins
from client.config.settings import Settings
from client.config.settings_checks import check_bucket
from client.operations.provisioning import carry_out, plan_steps, policies
from client.views.output import say
from client.views.prompt import confirm
from lifecycle.errors import ConfigError


def run(settings: Settings, *, yes: bool, dry_run: bool) -> int:
    """Show the changes that are needed, and make them if a person or *yes* agrees.

    Returns:
        0 if everything is right now; 1 if changes were shown and not made.

    Raises:
        ConfigError: The credentials are wrong or do not allow it, or there is no terminal to ask on.
    """
    if not settings.is_cloud:
        say("QUEUE_URL is not set: the local queue and store need no setup")
        return 0
    queues, bucket = open_admins(settings)
    steps = plan_steps(queues, bucket, settings.lease)
    for step in steps:
        say("\n".join(step.lines()))
    if not steps:
        say(f"{queues.url} and the bucket {bucket.bucket} need no changes")
        return 0
    if dry_run:
        return 1
    if not yes and not confirm("make these changes?"):
        return 1
    for step in steps:
        carry_out(step, queues, bucket)
        say(f"{step.subject}: done")
    return 0


def print_policies(settings: Settings) -> int:
    """Print the permissions that each role needs: an IAM policy for the queue, and a token's scope for the bucket.

    Returns:
        0.

    Raises:
        ConfigError: QUEUE_URL or BUCKET is not set.
    """
    if not settings.is_cloud:
        raise ConfigError("QUEUE_URL is not set, and policies name a queue")
    check_bucket(settings)
    say(json.dumps(policies(settings.queue_url, settings.bucket, settings.host.aws_region), indent=2))
    return 0


@options.command(
    "setup",
    ("holdfast setup", "Show what has to be changed, ask, and change it."),
    ("holdfast setup --policies", "Print the permissions that submitter, worker and operator need."),
)
@options.yes_option
@options.dry_run_option
@click.option("--policies", is_flag=True, help="Print the permissions that each role needs.")
def command(*, yes: bool, dry_run: bool, policies: bool) -> int:
    """Create or correct the queue and the bucket."""
    found = options.settings()
    return print_policies(found) if policies else run(found, yes=yes, dry_run=dry_run)
