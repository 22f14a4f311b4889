"""Collect the log events of the code, and write the tables of docs/logs.md (`make docs`)."""

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from adapters.telemetry.log_format import ATTEMPT_INFO_EVENTS, ATTEMPT_WARNING_EVENTS

ROOT: Final = Path(__file__).parents[2]
RINGS: Final = ("lifecycle", "adapters", "client")
"""Folders whose log calls are checked and documented."""
LEVELS: Final = {name: name for name in ("debug", "info", "warning", "error")} | {"exception": "error"}
CRASH_HELPER: Final = "_log_crash"  # logs at level critical, in adapters/telemetry/log_format.py
START: Final = "<!-- events: written by `make docs` -->\n"
END: Final = "<!-- end -->\n"


@frozen
class LogCall:
    """A call that writes a log line; the event is None if it is not a literal."""

    event: str | None
    level: str
    module: str
    line: int
    fields: tuple[str, ...]


def log_calls(source: str, module: str) -> Iterator[LogCall]:
    """Yield the calls `log.LEVEL(event, field=…)` in *source*."""
    for node in ast.walk(ast.parse(source)):
        level = _level(node) if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and level:
            first = node.args[0] if node.args else None
            event = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
            fields = tuple(keyword.arg or "**" for keyword in node.keywords)
            yield LogCall(event, level, module, node.lineno, fields)


def plain_loggers(source: str) -> list[int]:
    """Return the lines that bind `log` to anything but a `StructuredLogger`."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "log" for target in node.targets)
        and not (isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "StructuredLogger")
    ]


def sources() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each module in RINGS."""
    for ring in RINGS:
        for path in sorted((ROOT / ring).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text()


def all_calls() -> list[LogCall]:
    """Return all log calls in RINGS."""
    return [call for module, source in sources() for call in log_calls(source, module)]


def tables(calls: Sequence[LogCall]) -> str:
    """Return the generated part of docs/logs.md."""
    lines = ["| event | level | fields | logged in |", "|---|---|---|---|"]
    for event in sorted({call.event for call in calls if call.event}):
        same = [call for call in calls if call.event == event]
        modules = ", ".join(sorted({f"`{call.module}`" for call in same}))
        fields = ", ".join(f"`{field}`" for field in same[0].fields)
        lines.append(f"| `{event}` | {same[0].level} | {fields} | {modules} |")
    lines += ["", "These events of an attempt's event log are logged as well, with the same fields:", ""]
    lines += ["| event | level |", "|---|---|"]
    lines += [f"| `{event}` | info |" for event in sorted(ATTEMPT_INFO_EVENTS)]
    lines += [f"| `{event}` | warning |" for event in sorted(ATTEMPT_WARNING_EVENTS)]
    return "\n".join(lines) + "\n"


def with_tables(text: str, calls: Sequence[LogCall]) -> str:
    """Return the text of docs/logs.md with its generated part replaced."""
    return re.sub(
        f"(?s){re.escape(START)}.*?{re.escape(END)}", lambda _: f"{START}\n{tables(calls)}\n{END}", text, count=1
    )


def _level(call: ast.Call) -> str | None:
    match call.func:
        case ast.Attribute(value=ast.Name(id="log"), attr=attr):
            return LEVELS.get(attr, attr)
        case ast.Name(id=name) if name == CRASH_HELPER:
            return "critical"
    return None


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_tables(page.read_text(), all_calls()))
