"""The Mermaid diagrams show the edges of the table, all of them and no others."""

from pathlib import Path

import pytest
from hypothesis import given
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
    """Read back, the two diagrams are the table, and they share no edge."""
    assert sorted(drawn()) == rows(list(EDGES))


@given(some.lists(some.sampled_from(EDGES), unique=True))
def test_the_diagrams_follow_any_table(table: list[Edge]) -> None:
    """Edges that are removed, or listed in another order, do not make the diagrams show a wrong edge."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statechart, "EDGES", tuple(table))
        assert sorted(drawn()) == rows(table)


def test_the_order_of_rows_does_not_move_an_arrow() -> None:
    """Mermaid's layout follows the order of the arrows, so the text depends only on what the table contains."""
    before = statechart.mermaid(), statechart.mermaid_attempt()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statechart, "EDGES", EDGES[::-1])
        assert (statechart.mermaid(), statechart.mermaid_attempt()) == before


def test_an_attempt_is_drawn_from_where_it_is_entered() -> None:
    """The inner diagram starts at `received` and has the owned states only."""
    text = statechart.mermaid_attempt()
    assert "[*] --> received" in text
    assert {state for state in State if state in text.split()} <= OWNED


@pytest.mark.parametrize("page", ["README.md", "docs/states.md"])
def test_the_pages_show_both_diagrams(page: str) -> None:
    """`make docs` writes them."""
    text = (ROOT / page).read_text()
    for diagram in (statechart.mermaid(), statechart.mermaid_attempt()):
        assert f"```mermaid\n{diagram}\n```" in text
