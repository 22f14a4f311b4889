"""`holdfast queue`: count available, in-flight and delayed messages."""

import json

from client import options
from client.config.environment import Environment
from client.views.output import say


def run(env: Environment, *, as_json: bool) -> int:
    """Print the queue's own counts, which are approximate on SQS.

    Returns:
        0.
    """
    depth = env.queue.depth()
    if as_json:
        say(json.dumps({"available": depth.available, "in_flight": depth.in_flight, "delayed": depth.delayed}))
    else:
        say(f"{depth.available} available, {depth.in_flight} in flight, {depth.delayed} delayed (approximately)")
    return 0


@options.command(
    "queue",
    ("holdfast queue", "Print the counts."),
    ("holdfast queue --json", "Print them for a script."),
)
@options.json_option
def command(*, as_json: bool) -> int:
    """Count available, in-flight and delayed messages.

    The counts of SQS are approximate.
    """
    return run(options.environment(), as_json=as_json)
