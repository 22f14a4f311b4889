"""Which workloads this image offers: the built-in one, and those of its `workloads.toml`."""

import shlex
import signal
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from adapters.durations import parse
from lifecycle.errors import ConfigError
from lifecycle.message import SERIES_SUM
from lifecycle.ports.runner import Workload

BUILT_IN: Final = Workload(name=SERIES_SUM, command=("{python}", "{sdk}/series_sum.py"), needs_input=True)
KEYS: Final = ("command", "environment", "stop_signal", "grace", "needs_input")


def load(path: Path | None) -> dict[str, Workload]:
    """All workloads by name.

    Args:
        path: A `workloads.toml`: one table a workload, with `command` (text, or a list of words; `{param}` stands for
            a parameter of the job) and perhaps `environment` (a table of texts), `stop_signal` (`"SIGTERM"`), `grace`
            (`"30s"`) and `needs_input` (true or false). None: only what is built in.

    Raises:
        ConfigError: The file is missing or wrong; the message names file, entry and key.
    """
    if path is None:
        return {BUILT_IN.name: BUILT_IN}
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    offered = {BUILT_IN.name: BUILT_IN}
    for name, table in tables.items():
        try:
            offered[name] = _workload(name, table)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{path}: [{name}] {error}") from error
    return offered


def _workload(name: str, table: object) -> Workload:
    if not isinstance(table, dict):
        raise TypeError("is not a table")
    for key in table:
        if key not in KEYS:
            raise ValueError(f"{key}: no such key; there are {', '.join(KEYS)}")
    return Workload(
        name=name,
        command=_command(table.get("command")),
        environment=_environment(table.get("environment", {})),
        stop_signal=_signal(table.get("stop_signal", "SIGTERM")),
        grace=_grace(table.get("grace")),
        needs_input=_flag(table.get("needs_input", False)),
    )


def _command(value: object) -> tuple[str, ...]:
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"command: {error}") from error
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise TypeError("command: is not a text, nor a list of words")
    return tuple(words)


def _environment(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise TypeError("environment: is not a table of texts")
    return value


def _signal(value: Any) -> str:
    if not isinstance(value, str) or value not in signal.Signals.__members__:
        raise ValueError(f"stop_signal: {value!r} is no signal, like SIGTERM or SIGUSR1")
    return value


def _grace(value: object) -> timedelta | None:
    if value is None:
        return None
    try:
        return parse(str(value))
    except ValueError as error:
        raise ValueError(f"grace: {error}") from error


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("needs_input: is neither true nor false")
    return value
