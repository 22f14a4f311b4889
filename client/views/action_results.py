"""The results of an action on several jobs, printed as they come in."""

import json
from collections.abc import Iterable

from attrs import asdict, frozen

from client.views.output import complain, say


@frozen
class ActionResult:
    """The result of an action on one job.

    Attributes:
        job: The job's id.
        done: What was done; None if nothing was.
        problem: Why nothing was done; None if something was.
    """

    job: str
    done: str | None = None
    problem: str | None = None


def print_results(results: Iterable[ActionResult], *, as_json: bool = False) -> int:
    """Print a line for each result, problems on stderr, or all as JSON; return 1 if there was a problem, else 0."""
    exit_code = 0
    for result in results:
        exit_code = exit_code or int(result.problem is not None)
        if as_json:
            say(json.dumps(asdict(result)))
        elif result.problem is None:
            say(f"{result.job}: {result.done}")
        else:
            complain(f"{result.job}: {result.problem}")
    return exit_code
