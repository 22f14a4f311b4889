"""Log events are constants that can be searched for and counted, and docs/logs.md lists them all."""

import re

import pytest
from support.log_events import ROOT, LogCall, all_calls, log_calls, plain_loggers, sources, with_tables

EVENT = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)+")


def test_every_event_is_a_dotted_literal() -> None:
    """An event is a literal in dotted form, and its fields are named in the call."""
    calls = all_calls()
    assert calls
    assert [call for call in calls if not EVENT.fullmatch(call.event or "") or "**" in call.fields] == []


def test_every_logger_is_structured() -> None:
    """Every module uses `StructuredLogger`, because a plain logger accepts sentences."""
    assert [(module, lines) for module, source in sources() if (lines := plain_loggers(source))] == []


def test_an_event_has_one_meaning() -> None:
    """An event has the same level and the same fields in every place."""
    meanings: dict[str | None, set[tuple[str, tuple[str, ...]]]] = {}
    for call in all_calls():
        meanings.setdefault(call.event, set()).add((call.level, call.fields))
    assert {event: found for event, found in meanings.items() if len(found) > 1} == {}


def test_the_docs_list_every_event() -> None:
    """docs/logs.md is up to date with `make docs`."""
    page = (ROOT / "docs" / "logs.md").read_text()
    assert page == with_tables(page, all_calls())


@pytest.mark.parametrize(
    ("source", "event", "level"),
    [
        ('log.info("job.claimed", job=1)', "job.claimed", "info"),
        ('log.exception("job.claimed", job=1)', "job.claimed", "error"),
        ('log.info(f"{job} claimed", job=1)', None, "info"),
        ("log.warning(event, job=1)", None, "warning"),
        ('log.critical("job.claimed", job=1)', "job.claimed", "critical"),
    ],
)
def test_a_call_with_any_event_is_found(source: str, event: str | None, level: str) -> None:
    """An event that is not a literal is found too, so that `test_every_event_is_a_dotted_literal` can refuse it."""
    assert list(log_calls(source, "m")) == [LogCall(event, level, "m", 1, ("job",))]


def test_a_plain_logger_is_found() -> None:
    """A logger named `log` that is not a `StructuredLogger` is found."""
    assert plain_loggers('log = StructuredLogger("x")\nlog = logging.getLogger("x")') == [2]
