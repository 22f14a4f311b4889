"""The Mermaid diagrams show all edges of the table, and no others."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from support.mermaid import edges

from lifecycle import statechart
from lifecycle.states import EDGES, OWNED, Edge, State

ROOT = Path(__file__).parents[2]


def drawn() -> list[tuple[str, str, str]]:
    return [*edges(statechart.mermaid()), *edges(statechart.mermaid_attempt())]


def rows(table: list[Edge]) -> list[tuple[str, str, str]]:
    return sorted({(edge.source, edge.trigger, edge.destination) for edge in table})


def test_the_diagrams_show_each_edge_once() -> None:
    """Parsed back, the two diagrams together are the table, and they share no edge."""
    assert sorted(drawn()) == rows(list(EDGES))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is not a fault
@given(some.lists(some.sampled_from(EDGES), unique=True))
def test_the_diagrams_follow_any_table(table: list[Edge]) -> None:
    """After edges are removed or reordered, the diagrams still show exactly the table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statechart, "EDGES", tuple(table))
        assert sorted(drawn()) == rows(table)


def test_the_order_of_rows_does_not_move_an_arrow() -> None:
    """Mermaid's layout follows the order of the arrows, so the text depends only on the set of edges."""
    before = statechart.mermaid(), statechart.mermaid_attempt()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statechart, "EDGES", EDGES[::-1])
        assert (statechart.mermaid(), statechart.mermaid_attempt()) == before


def test_the_inner_diagram_starts_at_received() -> None:
    """The inner diagram starts at `received` and contains only owned states."""
    text = statechart.mermaid_attempt()
    assert "[*] --> received" in text
    assert {state for state in State if state in text.split()} <= OWNED


@pytest.mark.parametrize("page", ["README.md", "docs/states.md"])
def test_the_pages_show_both_diagrams(page: str) -> None:
    """The README and docs/states.md contain both diagrams; `make docs` writes them."""
    text = (ROOT / page).read_text()
    for diagram in (statechart.mermaid(), statechart.mermaid_attempt()):
        assert f"```mermaid\n{diagram}\n```" in text
