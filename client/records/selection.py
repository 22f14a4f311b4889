"""Naming jobs on a command line: ids, patterns such as `md-*`, labels and states."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from attrs import evolve, field, frozen

from client.config.environment import Environment
from client.records.database import cache_path
from client.records.query import Query, is_pattern
from client.records.record_index import RecordIndex
from lifecycle.errors import PermanentError, UsageError
from lifecycle.states import State


@frozen
class Selection:
    """The jobs that a command line names.

    Attributes:
        names: Ids and patterns; empty: all jobs that have the labels and states.
        labels: Only jobs with all of these labels.
        states: Only jobs in these states; empty: in any.
    """

    names: Sequence[str] = ()
    labels: Mapping[str, str] = field(factory=dict)
    states: Sequence[State] = ()

    @property
    def is_ids(self) -> bool:
        """True if only ids are given, so that no record has to be looked for."""
        return not (self.labels or self.states or any(map(is_pattern, self.names)))


def select(env: Environment, selection: Selection, *, among: Collection[State] = ()) -> list[str]:
    """Return the ids of the selected jobs. Ids that are given without labels and states need not exist.

    Args:
        env: The environment of the jobs.
        selection: The jobs.
        among: States in which the command has something to do; empty: any. Of the jobs that a pattern, label or state
            selects, only those are returned; an id that is given is returned in any case.

    Raises:
        UsageError: Nothing is selected at all.
        ConfigError: The bucket or its credentials are wrong.
        PermanentError: No job matches a pattern, the labels or the states.
        RetryableError: The bucket cannot be listed.
    """
    if not (selection.names or selection.labels or selection.states):
        raise UsageError("name jobs: ids, patterns such as 'md-*', or labels with -l NAME=VALUE")
    if selection.is_ids:
        return list(dict.fromkeys(selection.names))
    query = Query(names=selection.names, labels=selection.labels, states=selection.states)
    with RecordIndex(env, cache_path(env)) as index:
        index.refresh()
        matching = [one.job for one in index.jobs(query)]
        fit = set(matching)
        if among:
            fit = {one.job for one in index.jobs(evolve(query, states=_both(selection.states, among)))}
    missing = list(_without_match(selection, matching))
    if missing:
        raise PermanentError(f"no job matches {', '.join(missing)}: `holdfast status` lists the jobs")
    return [job for job in matching if job in fit or job in selection.names]


def _both(states: Sequence[State], among: Collection[State]) -> list[State]:
    return [state for state in among if state in states or not states] or [State.SUPERSEDED]  # which no record is in


def _without_match(selection: Selection, found: Sequence[str]) -> Iterator[str]:
    """Yield what nothing was found for: each name by itself, or else the labels and states together."""
    for name in selection.names:
        if not any(fnmatchcase(job, name) for job in found):
            yield repr(name)
    if not selection.names and not found:
        yield from (f"label {name}={text}" for name, text in selection.labels.items())
        yield from (f"state {state.value}" for state in selection.states)
