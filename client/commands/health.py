"""The container's health check: `python -m client.commands.health` checks the worker on this node."""

import sys
import time

from client.config.settings import current_settings
from client.config.worker_files import health_problem
from client.views.output import say
from lifecycle.errors import ConfigError


def main() -> int:
    """Check the worker; print `alive` or its problem.

    Returns:
        0 if it is healthy, 1 if not.
    """
    try:
        problem = health_problem(current_settings(), now=time.time())
    except ConfigError as error:
        problem = str(error)
    say(problem or "alive")
    return int(problem is not None)


if __name__ == "__main__":
    sys.exit(main())
