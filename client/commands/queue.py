"""`holdfast queue`: count available, in-flight and delayed messages."""

import json

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
