"""The results of an action on several jobs, printed as they come in."""

import sys
from collections.abc import Iterable

from client.operations.job_control import ActionResult


def print_results(results: Iterable[ActionResult]) -> int:
    """Print a line for each result, problems on stderr; return 1 if there was a problem, otherwise 0."""
    exit_code = 0
    for result in results:
        if result.problem is None:
            print(f"{result.job}: {result.done}")
        else:
            print(f"holdfast: {result.job}: {result.problem}", file=sys.stderr)
            exit_code = 1
    return exit_code
