"""`holdfast states`: print the state diagrams and tables, generated from the running code."""

import json
import sys
from pathlib import Path

import click

from client import options
from lifecycle.statechart import mermaid, mermaid_attempt
from lifecycle.states import EDGES
from lifecycle.states_page import document


def run(*, write: Path | None = None, as_json: bool = False, diagram: bool = False) -> int:
    """Print the page with diagrams and tables.

    Args:
        write: Write the page to this file instead.
        as_json: Print the edges of the state table instead, as JSON lines.
        diagram: Print only the diagrams, in Mermaid.

    Returns:
        0.
    """
    if as_json:
        for edge in EDGES:
            row = {
                "source": edge.source,
                "trigger": edge.trigger,
                "destination": edge.destination,
                "guard": edge.guard.__name__ if edge.guard else None,
                "recorded": edge.recorded.value,
                "before_record": list(edge.before_record),
                "after_record": list(edge.after_record),
                "by_operator": edge.by_operator,
                "why": edge.why,
            }
            sys.stdout.write(f"{json.dumps(row)}\n")
    elif write:
        write.write_text(document(), encoding="utf-8")
    else:
        sys.stdout.write(f"{mermaid()}\n\n{mermaid_attempt()}\n" if diagram else document())
    return 0


@options.command(
    "states",
    ("holdfast states", "Print the diagrams and tables, in Markdown."),
    ("holdfast states --diagram", "Print the diagrams alone, in Mermaid."),
)
@click.option("--write", metavar="FILE", type=options.FILE, help="Write them to FILE.")
@click.option("--diagram", is_flag=True, help="Print only the diagrams, in Mermaid.")
@options.json_option
def command(*, write: Path | None, diagram: bool, as_json: bool) -> int:
    """Print the state diagrams and tables."""
    return run(write=write, as_json=as_json, diagram=diagram)
