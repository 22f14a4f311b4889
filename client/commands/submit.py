"""`holdfast submit`: submit jobs that are named on the command line, in a folder, or in a file of JSON lines."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click
from attrs import evolve

from adapters.process.workloads_file import load
from client import options
from client.config.environment import Environment
from client.operations.inputs import NOT_A_JOB_ID, job_folders
from client.operations.submission import (
    FAILED,
    NOT_ANNOUNCED,
    NOT_DONE,
    OUTCOMES,
    REFUSED,
    JobRequest,
    SubmitResult,
    jobs_without_input,
    submit,
)
from client.records.query import parse_label
from client.views.output import complain, say
from client.views.progress import progress_bar
from lifecycle.errors import ConfigError, PermanentError, UsageError, reason_of
from lifecycle.key_layout import is_job_id
from lifecycle.limits import saving_interval

NO_DEFAULT: Final = timedelta(0)  # only the interval that a job sets itself is checked here
REMEDY: Final = "submit the failed jobs again; then run `holdfast reconcile --older 0` to send missing messages"
OTHER_WORK: Final = (
    "a job keeps its work: submit other work under another id, or remove the job with `holdfast rm` first"
)
NAMED: Final = 3  # jobs that a message names
FIELDS: Final = frozenset({"job", "workload", "params", "labels"})


def run(
    env: Environment,
    requests: Sequence[JobRequest],
    *,
    as_json: bool,
    needs_input: bool = False,
    problems: Sequence[str] = (),
) -> int:
    """Submit all *requests*.

    Args:
        env: The environment to submit to.
        requests: The jobs.
        as_json: Print JSON, one object per job.
        needs_input: Refuse jobs that have no input.
        problems: What was asked for and cannot be a job, a line for each.

    Returns:
        0; 1 if a job was not submitted and had not been submitted before with the same work.

    Raises:
        PermanentError: A job has no input; nothing has been submitted.
        ConfigError: The queue, the bucket or the credentials are wrong; jobs submitted before that was found stay
            submitted.
    """
    for problem in (*problems, *unknown_workloads(env, requests)):
        complain(problem)
    if needs_input:
        _expect_inputs(env, requests)
    counts = Counter[str]()
    try:
        with progress_bar("submitting", len(requests)) as advance:
            for result in submit(env, requests):
                counts[result.outcome] += 1
                advance(1)
                _print_result(result, as_json=as_json)
    finally:
        if not as_json and counts:
            say(", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]))
        if counts[FAILED] or counts[NOT_ANNOUNCED]:
            complain(f"{REMEDY}")
        if counts[REFUSED]:
            complain(OTHER_WORK)
    return int(bool(problems) or any(counts[outcome] for outcome in NOT_DONE))


def _expect_inputs(env: Environment, requests: Sequence[JobRequest]) -> None:
    """Refuse jobs without input, which usually means that the folder's or the job's name is misspelt.

    Raises:
        PermanentError: A job has no input.
    """
    missing = jobs_without_input(env, requests)
    if missing:
        named = ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED} more" * (len(missing) > NAMED))
        where = env.layout.job(missing[0]).input
        raise PermanentError(
            f"nothing was submitted: {named} {'has' if len(missing) == 1 else 'have'} no input under {where}: check the"
            " spelling, run `holdfast upload` first, or pass --no-input if none is needed"
        )


def unknown_workloads(env: Environment, requests: Sequence[JobRequest]) -> list[str]:
    """Return a warning for each workload that this folder's workloads file lacks.

    Without such a file only misspelt names of built-in workloads are known to be wrong.
    """
    path = env.settings.workloads
    try:
        known = list(load(path))
    except ConfigError:
        return []  # the workers' file is another one, and they check theirs
    warnings = []
    for name in dict.fromkeys(request.workload for request in requests):
        close = get_close_matches(name, known, 1)
        if name not in known and (path or close):
            guess = f" (did you mean {close[0]!r}?)" if close else ""
            where = f"in {path}" if path else "built in"
            warnings.append(f"warning: workload {name!r} is not {where}{guess}: the job waits for a worker that has it")
    return warnings


def _print_result(result: SubmitResult, *, as_json: bool) -> None:
    if as_json:
        say(json.dumps({"job": result.job, "outcome": result.outcome, "reason": result.reason}))
    elif result.reason:
        say(f"{result.job}: {result.outcome}: {result.reason}", file=sys.stderr)


def read_requests(
    names: Sequence[str],
    *,
    file: Path | None,
    workload: str,
    params: Sequence[str],
    labels: Sequence[str] = (),
    problems: list[str] | None = None,
) -> list[JobRequest]:
    """Read the jobs to submit from the arguments of a command line; each job once.

    Args:
        names: Job ids, and folders whose sub-folders are jobs.
        file: A file of JSON lines, each a job.
        workload: The workload, unless a line of *file* names another.
        params: Parameters as NAME=VALUE; a VALUE that is not JSON is taken as text.
        labels: Labels as NAME=VALUE.
        problems: Receives a line for each sub-folder that cannot be a job; the others are returned.

    Raises:
        UsageError: An argument or a line of *file* is invalid; nothing has been submitted.
    """
    template = JobRequest("", workload, dict(map(_param, params)), dict(map(parse_label, labels)))
    try:
        saving_interval(template.params, NO_DEFAULT)
    except PermanentError as error:
        raise UsageError(f"{error}; nothing was submitted") from error
    requests: list[JobRequest] = []
    problems = [] if problems is None else problems
    for name in names:
        requests += [evolve(template, job=job) for job in _jobs_of(name, problems)]
    if file is not None:
        requests += _read_lines(file, template)
    if not requests:
        raise UsageError("; ".join(problems) or "nothing to submit: name a folder, job ids, or a file with --from")
    unique: dict[str, JobRequest] = {}
    for request in requests:
        first = unique.setdefault(request.job, request)
        if first != request:
            raise UsageError(f"{request.job} is requested twice with different work: nothing was submitted")
    for job, times in Counter(request.job for request in requests).items():
        if times > 1:
            say(f"{job}: requested {times} times, submitted once", file=sys.stderr)
    return list(unique.values())


def _jobs_of(name: str, problems: list[str]) -> list[str]:
    """Return the jobs that an argument names: the sub-folders of a folder, or one job.

    Adds to *problems* the sub-folders that cannot be jobs, as `holdfast upload` does.

    Raises:
        UsageError: It is neither a folder nor a job id.
    """
    if not name:
        raise UsageError("an argument is empty: name a folder or job ids")
    if not os.path.isdir(name):  # noqa: PTH112 - Path.is_dir fails on a name that is too long
        if not is_job_id(name):
            raise UsageError(f"{name!r} is neither an existing folder nor a valid job id")
        return [name]
    folders = job_folders(Path(name))
    problems += [f"{folder}: {NOT_A_JOB_ID}" for folder in folders if not is_job_id(folder.name)]
    return [folder.name for folder in folders if is_job_id(folder.name)]


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--param {text!r} is not NAME=VALUE")
    try:
        return name, _parse_json(value)
    except (ValueError, RecursionError):
        return name, value


def _parse_json(text: str) -> Any:
    """Parse strict JSON: Python's parser also accepts NaN and Infinity, which no other reader of the record does."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON, from column {error.colno} on") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def _read_lines(file: Path, template: JobRequest) -> Iterator[JobRequest]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")  # not splitlines(): JSON may contain U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {reason_of(error)}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _request(_parse_json(line), template)
            except (ValueError, RecursionError, PermanentError) as error:
                raise ConfigError(f"{file}, line {number}: {error}; nothing was submitted") from error


def _request(raw: object, template: JobRequest) -> JobRequest:
    """Check a line's object, and fill in what *template* has.

    Raises:
        PermanentError: The object is not a valid job.
    """
    if not isinstance(raw, dict) or not raw.keys() <= FIELDS:
        raise PermanentError('must be an object with "job" and, optionally, "workload", "params" and "labels"')
    job, workload, params = raw.get("job"), raw.get("workload", template.workload), raw.get("params", {})
    labels = raw.get("labels", {})
    if not isinstance(job, str) or not is_job_id(job):
        raise PermanentError(f"{job!r} is not a valid job id")
    if not isinstance(workload, str) or not workload or not isinstance(params, dict):
        raise PermanentError('"workload" must be a name and "params" an object')
    if not isinstance(labels, dict) or not all(isinstance(text, str) for text in labels.values()):
        raise PermanentError('"labels" must be an object whose values are strings')
    request = JobRequest(job, workload, {**template.params, **params}, {**template.labels, **labels})
    saving_interval(request.params, NO_DEFAULT)
    return request


@options.command(
    "submit",
    ("holdfast submit local_jobs", "Submit a job for each sub-folder of local_jobs, whose input was uploaded."),
    ("holdfast submit md-1 --no-input --workload relax --param temperature=300", "Submit one job that needs no input."),
)
@click.argument("names", metavar="[DIR|JOB]...", nargs=-1)
@click.option(
    "--from", "file", metavar="FILE", type=options.FILE, help='JSON lines {"job", "workload", "params", "labels"}.'
)
@click.option("--workload", metavar="NAME", default="series-sum", help="The jobs' workload.")
@click.option(
    "--param", "params", metavar="NAME=VALUE", multiple=True, help="A parameter of the jobs; may be repeated."
)
@click.option("--label", "labels", metavar="NAME=VALUE", multiple=True, help="A label of the jobs; may be repeated.")
@click.option("--no-input", is_flag=True, help="The jobs need no input.")
@options.json_option
def command(
    *,
    names: Sequence[str],
    file: Path | None,
    workload: str,
    params: Sequence[str],
    labels: Sequence[str],
    no_input: bool,
    as_json: bool,
) -> int:
    """Submit jobs, by id or as the sub-folders of a folder.

    An argument that is an existing folder stands for its sub-folders; anything else is a job id. A job that was
    submitted before is left as it is.
    """
    problems: list[str] = []
    requests = read_requests(names, file=file, workload=workload, params=params, labels=labels, problems=problems)
    env = options.environment(named=True)
    return run(env, requests, as_json=as_json, needs_input=not no_input, problems=problems)
