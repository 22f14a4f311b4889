"""Selecting jobs: which ones, in which order, and the same as a condition for SQLite."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from attrs import field, frozen

from lifecycle.durations import parse
from lifecycle.errors import UsageError
from lifecycle.states import State

CLOCK_STEP_S: Final = 1.0  # ages are whole seconds: see JobRecord.is_owned
CONTAINS: Final = """(instr(lower(job), :text) OR instr(lower(labels), :text) OR EXISTS (
    SELECT 1 FROM json_each(CAST(body AS TEXT))
    WHERE key IN ('owner', 'workload', 'error') AND instr(lower(value), :text)))"""
MARKED_ARCHIVED: Final = """instr(CAST(body AS TEXT), '"archived":"')"""
STALE: Final = f"lease_s IS NOT NULL AND written_at + lease_s + {CLOCK_STEP_S} < :now"
ORDERS: Final = {
    "job": "job",
    "state": "state",
    "updated": "-written_at",
    "progress": "-share",
    "eta": "eta_s - (:now - written_at)",
}
"""SQL expressions that jobs can be sorted by."""
WILDCARDS: Final = frozenset("*?[")
STATE_NAMES: Final = tuple(state.value for state in State if state is not State.SUPERSEDED)


@frozen(kw_only=True)
class Query:
    """A selection of jobs, and their order.

    Attributes:
        names: Only jobs with these ids or patterns (`*`, `?`, `[…]`); empty: any.
        states: Only jobs in these states; empty: in any.
        labels: Only jobs with all of these labels.
        stale: Only jobs whose owner's lease has expired.
        since_s: Only jobs whose record was written within this many seconds.
        before_s: Only jobs whose record was written longer ago than this many seconds, or is marked as archived.
        text: Only jobs with this text, in any case, in their id, labels, owner, workload or error.
        sort: One of ORDERS.
        reverse: Reverse the order.
        limit: At most this many jobs; None: all.
        offset: Skip this many jobs.
    """

    names: Sequence[str] = ()
    states: Sequence[State] = ()
    labels: Mapping[str, str] = field(factory=dict)
    stale: bool = False
    since_s: float | None = None
    before_s: float | None = None
    text: str = ""
    sort: str = "job"
    reverse: bool = False
    limit: int | None = None
    offset: int = 0

    @property
    def order(self) -> str:
        """The ORDER BY terms for SQLite; jobs without a value come last, and the job id breaks ties."""
        return f"{ORDERS[self.sort]} {'DESC' if self.reverse else 'ASC'} NULLS LAST, job"


EVERYTHING: Final = Query()


def parse_query(
    *,
    states: Sequence[str] = (),
    stale: bool = False,
    labels: Sequence[str] = (),
    since: str | None = None,
    sort: str = "job",
    reverse: bool = False,
    limit: int | None = None,
) -> Query:
    """Read a query from the options of a command line.

    Raises:
        UsageError: A state, label, duration or order is invalid; the message names the option.
    """
    names = [name for text in states for name in text.split(",")]
    for name in names:
        if name not in STATE_NAMES:
            close = get_close_matches(name, STATE_NAMES, 1)
            guess = f"did you mean {close[0]}? The" if close else "the"
            raise UsageError(f"--state {name}: unknown state; {guess} states are {', '.join(STATE_NAMES)}")
    if sort not in ORDERS:
        raise UsageError(f"--sort {sort}: must be one of {', '.join(ORDERS)}")
    try:
        since_s = parse(since).total_seconds() if since else None
    except ValueError as error:
        raise UsageError(f"--since {error}") from error
    return Query(
        states=[State(name) for name in names],
        stale=stale,
        labels=dict(parse_label(text) for text in labels),
        since_s=since_s,
        sort=sort,
        reverse=reverse,
        limit=limit,
    )


def is_pattern(name: str) -> bool:
    """Return whether *name* is a pattern for job ids: no id contains these characters."""
    return not WILDCARDS.isdisjoint(name)


def parse_label(text: str) -> tuple[str, str]:
    """Read a label, given as NAME=VALUE on a command line.

    Raises:
        UsageError: *text* has another form.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--label {text!r} is not NAME=VALUE")
    return name, value


def where(query: Query, now: float) -> tuple[str, dict[str, Any]]:
    """Return *query* as a condition for SQLite on a table with the columns of `jobs`, and the condition's values."""
    parts = ["1"]
    limit = -1 if query.limit is None else query.limit
    values: dict[str, Any] = {"now": now, "limit": limit, "offset": query.offset}
    if query.names:
        parts.append(f"({' OR '.join(f'job GLOB :glob{number}' for number, _ in enumerate(query.names))})")
        values |= {f"glob{number}": name.replace("[!", "[^") for number, name in enumerate(query.names)}
    if query.states:
        parts.append(f"state IN ({','.join(repr(state.value) for state in query.states)})")
    if query.stale:
        parts.append(STALE)
    if query.since_s is not None:
        parts.append("written_at >= :now - :since")
        values["since"] = query.since_s
    if query.before_s is not None:
        parts.append(f"(written_at < :now - :before OR {MARKED_ARCHIVED})")
        values["before"] = query.before_s
    if query.text:
        parts.append(CONTAINS)
        values["text"] = query.text.lower()
    for number, (name, text) in enumerate(query.labels.items()):
        parts.append(f"EXISTS (SELECT 1 FROM json_each(labels) WHERE key = :name{number} AND value = :text{number})")
        values |= {f"name{number}": name, f"text{number}": text}
    return " AND ".join(parts), values
