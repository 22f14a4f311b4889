"""A report as an SVG drawing: a bar per line, divided by cause."""

from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from client.views.text import printable
from client.views.time_accounting import LABELS, TimeBreakdown

COLORS: Final = {
    "useful": "#2a9d63",
    "redo": "#d1495b",
    "no_result": "#7a2e3a",
    "restore": "#edae49",
    "upload": "#8d6cab",
    "node_loss": "#30638e",
    "idle": "#b0b7bf",
}
WIDTH, LEFT, RIGHT, TOP, ROW, BAR, LEGEND = 960, 240, 90, 40, 28, 20, 98  # pixels
LONGEST_NAME: Final = 32
HOUR_S: Final = 3600.0


def as_svg(lines: Sequence[tuple[str, TimeBreakdown]]) -> str:
    """Return the drawing of *lines*, each a name and its time; the longest bar fills the width."""
    longest = max((time.total for _, time in lines), default=0.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts = list(_legend())
    for number, (name, time) in enumerate(lines):
        parts += _bar(printable(name)[:LONGEST_NAME], time, TOP + number * ROW, scale)
    height = TOP + len(lines) * ROW + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' font-family="sans-serif" font-size="13"><rect width="{WIDTH}" height="{height}" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _legend() -> Iterator[str]:
    for number, (name, color) in enumerate(COLORS.items()):
        x = LEFT + number * LEGEND
        yield f'<rect x="{x}" y="10" width="12" height="12" fill="{color}"/>'
        yield f'<text x="{x + 18}" y="21">{LABELS[name]}</text>'


def _bar(name: str, time: TimeBreakdown, y: int, scale: float) -> Iterator[str]:
    yield f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
    x = float(LEFT)
    for cause, color in COLORS.items():
        seconds: float = getattr(time, cause)
        title = f"<title>{LABELS[cause]}: {seconds / HOUR_S:.2f} h</title>"
        yield f'<rect x="{x:.1f}" y="{y}" width="{seconds * scale:.1f}" height="{BAR}" fill="{color}">{title}</rect>'
        x += seconds * scale
    yield f'<text x="{x + 6:.1f}" y="{y + 15}">{time.total / HOUR_S:.1f} h</text>'
