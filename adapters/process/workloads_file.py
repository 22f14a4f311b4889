"""Load the workloads that this image offers: the built-in one, and those of its `workloads.toml`.

`READERS` lists the keys of an entry, with the function that reads each; `Workload` has attributes of the same names,
except for `ATTRIBUTES`.
"""

import hashlib
import json
import re
import shlex
import signal
import tomllib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from lifecycle.checkpoint.manifest import AREAS, is_safe_path
from lifecycle.durations import parse
from lifecycle.errors import ConfigError, reason_of
from lifecycle.ports.runner import EXIT_CODES, ExitMeaning, PassedVariables, StopScope, Workload
from lifecycle.record.message import SERIES_SUM

BUILT_IN: Final = Workload(
    name=SERIES_SUM, command=("{python}", "-P", "{sdk}/holdfast/series_sum.py"), needs_input=True
)
MAX_EXIT_CODE: Final = 255
ATTRIBUTES: Final = {"keep": "keep_every"}
"""Attributes of `Workload` whose names are not those of their keys."""
DIGEST_DIGITS: Final = 12


def load(path: Path | None) -> dict[str, Workload]:
    """Return all workloads by name.

    Args:
        path: A `workloads.toml`, with one table per workload (docs/workloads.md); None: only the built-in workload.

    Raises:
        ConfigError: The file is missing or wrong; the message names file, entry and key.
    """
    if path is None:
        return {BUILT_IN.name: BUILT_IN}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {reason_of(error)}") from error
    offered = {BUILT_IN.name: BUILT_IN}
    for name, table in tables.items():
        try:
            offered[name] = _workload(name, table, here=path.resolve().parent)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{path}: [{name}] {error}") from error
    return offered


def offer_digest(workloads: Mapping[str, Workload]) -> str:
    """Return a digest of the names and commands of *workloads*: images with the same one lack the same workloads."""
    offered = sorted((name, workload.command) for name, workload in workloads.items())
    return hashlib.sha256(json.dumps(offered).encode()).hexdigest()[:DIGEST_DIGITS]


def _workload(name: str, table: object, *, here: Path) -> Workload:
    if not isinstance(table, dict):
        raise TypeError("is not a table")
    for key in table:
        if key not in READERS:
            raise ValueError(f"{key}: no such key; the keys are {', '.join(READERS)}")
    if "command" not in table:
        raise ValueError("command: is missing")
    if "progress_file" in table and "progress_pattern" in table:
        raise ValueError("progress_pattern: there is progress_file already; give only one of them")
    read: dict[str, Any] = {}
    for key, value in table.items():
        try:
            read[key] = READERS[key](value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key}: {error}") from error
    for key in ("command", "check"):
        if key in read:
            read[key] = tuple(word.replace("{here}", str(here)) for word in read[key])
    return Workload(name=name, **{ATTRIBUTES.get(key, key): value for key, value in read.items()})


def _words(value: object) -> tuple[str, ...]:
    words = shlex.split(value) if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise TypeError("is neither a string nor a list of words")
    return tuple(words)


def _environment(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise TypeError("is not a table of strings")
    return value


def _passed(value: object) -> PassedVariables:
    is_strict = isinstance(value, dict)
    names = value.get("only") if isinstance(value, dict) and value.keys() == {"only"} else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name and "=" not in name for name in names):
        raise TypeError('is neither a list of names of variables nor { only = ["PATH", "HOME"] }')
    return PassedVariables(tuple(names), is_strict)


def _signal(value: Any) -> str:
    if not isinstance(value, str) or value not in signal.Signals.__members__:
        raise ValueError(f"{value!r} is not a signal; use a name like SIGTERM or SIGUSR1")
    return value


def _stop(value: object) -> StopScope:
    if value not in {each.value for each in StopScope}:
        raise ValueError(f"{value!r} is not one of {', '.join(StopScope)}")
    return StopScope(value)


def _duration(value: object) -> timedelta:
    return parse(str(value))


def _limit(value: object) -> timedelta:
    duration = _duration(value)
    if not duration:
        raise ValueError("must be more than zero")
    return duration


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("is neither true nor false")
    return value


def _patterns(value: object) -> tuple[str, ...]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError("is neither a string nor a list of strings")
    for pattern in patterns:
        folder, _, rest = pattern.partition("/")
        if folder not in AREAS or not rest:
            raise ValueError(f"{pattern!r} does not begin with {' or '.join(f'{area}/' for area in sorted(AREAS))}")
    return tuple(patterns)


def _keep(value: object) -> int:
    found = re.fullmatch(r"every ([1-9]\d{0,5})", value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f'{value!r} is not a text like "every 10"')
    return int(found[1])


def _exit_codes(value: object) -> Mapping[int, ExitMeaning]:
    if not isinstance(value, dict):
        raise TypeError('is not a table like {"3" = "again"}')
    meanings = dict(EXIT_CODES)
    for code, meaning in value.items():
        if not (code.isdigit() and int(code) <= MAX_EXIT_CODE):
            raise ValueError(f"{code!r} is not an exit code from 0 to {MAX_EXIT_CODE}")
        if meaning not in {each.value for each in ExitMeaning}:
            raise ValueError(f"{meaning!r} is not one of {', '.join(ExitMeaning)}")
        meanings[int(code)] = ExitMeaning(meaning)
    return meanings


def _file(value: object) -> str:
    if not isinstance(value, str) or not is_safe_path(value):
        raise ValueError(f"{value!r} is not a path inside the job's directory")
    return value


def _pattern(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("is not a string")
    try:
        groups = re.compile(value).groupindex
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    if "done" not in groups:
        raise ValueError("has no group (?P<done>…)")
    return value


def _total(value: object) -> str:
    text = str(value)
    if not (text.isdigit() or re.fullmatch(r"\{\w+\}", text)):
        raise ValueError(f"{text!r} is neither a whole number nor a {{parameter}}")
    return text


READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "command": _words,
    "environment": _environment,
    "pass_environment": _passed,
    "stop_signal": _signal,
    "stop": _stop,
    "grace": _duration,
    "needs_input": _flag,
    "checkpoint": _patterns,
    "in_place": _patterns,
    "growing": _patterns,
    "quiet": _duration,
    "freeze": _flag,
    "freeze_limit": _limit,
    "check": _words,
    "saving_interval": _limit,
    "keep": _keep,
    "exit_codes": _exit_codes,
    "wall_time": _limit,
    "silence": _limit,
    "progress_file": _file,
    "progress_pattern": _pattern,
    "total": _total,
}
