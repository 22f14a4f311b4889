"""The built-in workload `series-sum`: the sum of all whole numbers from a start to an end.

`input.txt` holds the two numbers, one a line; `output.txt` gets the sum. The state is `state.txt`, with four lines:
start, end, the last number added, and the sum so far. A state with the last two only, as Salad's first demo wrote it,
is read too. The parameter STEP_RUNNING_TIME (seconds) makes every step last
that long, as a stand-in for real work; without it, steps are summed in chunks. Exit code 65: the input is invalid.
"""

from __future__ import annotations

import os
import sys
import time

import holdfast

TYPE_CHECKING = False  # without importing typing, which slows every program's start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Add = Callable[[int, int, int], "tuple[int, int]"]

INVALID = 65
LOOK_S = 0.1  # how often to look at the clock and at the worker
FIRST_CHUNK = 10000


class InvalidInputError(Exception):
    """The job cannot succeed; the message says why."""


def main() -> int:
    """Run the job until it is done or the worker stops it, and return the exit code."""
    job = holdfast.job()
    try:
        start, end = read_range(os.path.join(job.input_dir, "input.txt"))
        step, total = read_state(job, start, end)
        step_s = read_step_time(job.params)
    except InvalidInputError as error:
        sys.stderr.write(f"{error}\n")
        return INVALID
    step, total = add_up(job, start, end, step, total, step_s)
    job.progress(step - start + 1, end - start + 1)
    if step < end:
        job.leave()
    with open(os.path.join(job.output_dir, "output.txt"), "w", encoding="ascii") as file:
        file.write(f"{total}\n")
    return 0


def add_up(job: holdfast.Job, start: int, end: int, step: int, total: int, step_s: float) -> tuple[int, int]:
    """Add the numbers after *step* to *total*, saving when it is time; return the last number added and the sum."""
    add = slow_steps(step_s) if step_s > 0 else fast_steps()
    while step < end:
        step, total = add(step, total, end)
        job.progress(step - start + 1, end - start + 1)
        if job.checkpoint_due() or job.should_stop:
            with job.checkpoint(step=step - start + 1) as directory:
                write_state(directory, start, end, step, total)
        if job.should_stop:
            break
    return step, total


def slow_steps(step_s: float) -> Add:
    """Return an adder with steps of *step_s* seconds: as many at a time as fit between two checks, never slower."""
    due = [time.monotonic()]

    def add(step: int, total: int, end: int) -> tuple[int, int]:
        until = due[0] + max(LOOK_S, step_s)
        while step < end and due[0] + step_s <= until:
            due[0] += step_s
            time.sleep(max(due[0] - time.monotonic(), 0))
            step += 1
            total += step
        return step, total

    return add


def fast_steps() -> Add:
    """Return an adder without pauses: its chunks grow until one takes as long as the time between two checks."""
    size = [FIRST_CHUNK]

    def add(step: int, total: int, end: int) -> tuple[int, int]:
        last = min(step + size[0], end)
        began = time.monotonic()
        total += sum(range(step + 1, last + 1))
        if time.monotonic() - began < LOOK_S / 2:
            size[0] *= 2
        return last, total

    return add


def read_range(path: str) -> tuple[int, int]:
    """Return the start and the end that the input gives."""
    start, end = read_numbers(path, 2)
    if start > end:
        raise InvalidInputError(f"input.txt: start {start} is greater than end {end}")
    return start, end


def read_state(job: holdfast.Job, start: int, end: int) -> tuple[int, int]:
    """Return the last number added and the sum so far, from the checkpoint if there is one."""
    path = os.path.join(job.checkpoint_dir, "state.txt")
    if not os.path.exists(path):
        return start - 1, 0
    *saved, step, total = read_numbers(path, 4, 2)
    if saved not in ([], [start, end]) or not start - 1 <= step <= end:
        which = f"{saved[0]} to {saved[1]}, which" if saved else "a state that"
        raise InvalidInputError(f"state.txt is at {step} of {which} is not this input")
    expected = (start + step) * (step - start + 1) // 2
    if not saved and total != expected:  # the short form does not name its input
        raise InvalidInputError(
            f"state.txt has the sum {total} up to {step}, which is not this input: it is {expected}"
        )
    return step, total


def write_state(directory: str, start: int, end: int, step: int, total: int) -> None:
    """Write the state into *directory*."""
    with open(os.path.join(directory, "state.txt"), "w", encoding="ascii") as file:
        file.write(f"{start}\n{end}\n{step}\n{total}\n")


def read_numbers(path: str, *counts: int) -> list[int]:
    """Return the whole numbers of a file, one a line; it must have one of *counts* of them."""
    name = os.path.basename(path)
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file.read().strip().splitlines()]
    except FileNotFoundError:
        raise InvalidInputError(f"{name}: there is no such file in the input") from None
    except UnicodeDecodeError:
        raise InvalidInputError(f"{name}: is not text") from None
    if len(lines) not in counts:
        raise InvalidInputError(f"{name}: has {len(lines)} lines, not {counts[0]} numbers, one a line")
    return [whole_number(name, line) for line in lines]


def whole_number(name: str, line: str) -> int:
    """Return the number in a line of file *name*."""
    try:
        return int(line)
    except ValueError:
        raise InvalidInputError(f"{name}: {line[:40]!r} is not a whole number") from None


def read_step_time(params: Mapping[str, Any]) -> float:
    """Return the duration of a step in seconds; messages of Salad's demo give it as text."""
    value = params.get("STEP_RUNNING_TIME", 0)
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InvalidInputError(f"STEP_RUNNING_TIME {value!r} is not a number of seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
