"""The built-in workload `series-sum`: the sum of all whole numbers from a start to an end.

`input.txt` holds the two, one a line; `output.txt` gets the sum. Its state is `state.txt`, four lines: start, end, the
step finished last (a number of the range), the sum so far. A step may be made to last (STEP_RUNNING_TIME, in seconds),
as a stand-in for real work; without that, steps are summed in chunks. Exit code 65: the input is wrong.
"""

import os
import sys
import time

import holdfast

INVALID = 65
LOOK_S = 0.1  # between two looks at the clock and at the worker
FIRST_CHUNK = 10000


class InvalidInputError(Exception):
    """The job cannot succeed, and why."""


def main():
    """Run the job to its end, or to where the worker stops it; returns the exit code."""
    job = holdfast.job()
    try:
        start, end = read_range(os.path.join(job.input_dir, "input.txt"))
        step, total = read_state(job, start, end)
        step_s = read_step_time(job.params)
    except InvalidInputError as error:
        sys.stderr.write("%s\n" % error)
        return INVALID
    step, total = add_up(job, start, end, step, total, step_s)
    job.progress(step - start + 1, end - start + 1)
    if step < end:
        job.leave()
    with open(os.path.join(job.output_dir, "output.txt"), "w", encoding="ascii") as file:
        file.write("%d\n" % total)
    return 0


def add_up(job, start, end, step, total, step_s):
    """Add the numbers after *step* to *total*, saving when it is time; returns how far it got."""
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


def slow_steps(step_s):
    """Steps that last: as many at a time as fit between two looks, and never slower than asked for."""
    due = [time.monotonic()]

    def add(step, total, end):
        until = due[0] + max(LOOK_S, step_s)
        while step < end and due[0] + step_s <= until:
            due[0] += step_s
            time.sleep(max(due[0] - time.monotonic(), 0))
            step += 1
            total += step
        return step, total

    return add


def fast_steps():
    """Steps that do not last: chunks that grow until one takes as long as the time between two looks."""
    size = [FIRST_CHUNK]

    def add(step, total, end):
        last = min(step + size[0], end)
        began = time.monotonic()
        total += sum(range(step + 1, last + 1))
        if time.monotonic() - began < LOOK_S / 2:
            size[0] *= 2
        return last, total

    return add


def read_range(path):
    """The start and the end that the input gives."""
    start, end = read_numbers(path, 2)
    if start > end:
        raise InvalidInputError("input.txt: start %d is greater than end %d" % (start, end))
    return start, end


def read_state(job, start, end):
    """How far the job is: the last number added, and the sum so far."""
    path = os.path.join(job.checkpoint_dir, "state.txt")
    if not os.path.exists(path):
        return start - 1, 0
    saved_start, saved_end, step, total = read_numbers(path, 4)
    if (saved_start, saved_end) != (start, end) or not start - 1 <= step <= end:
        raise InvalidInputError(
            "state.txt is at %d of %d to %d, which is not this input" % (step, saved_start, saved_end)
        )
    return step, total


def write_state(directory, start, end, step, total):
    """Write the state into *directory*."""
    with open(os.path.join(directory, "state.txt"), "w", encoding="ascii") as file:
        file.write("%d\n%d\n%d\n%d\n" % (start, end, step, total))


def read_numbers(path, count):
    """The *count* whole numbers of a file, one a line."""
    name = os.path.basename(path)
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file.read().strip().splitlines()]
    except FileNotFoundError:
        raise InvalidInputError("%s: there is no such file in the input" % name) from None
    except UnicodeDecodeError:
        raise InvalidInputError("%s: is not text" % name) from None
    if len(lines) != count:
        raise InvalidInputError("%s: has %d lines, not %d numbers, one a line" % (name, len(lines), count))
    return [whole_number(name, line) for line in lines]


def whole_number(name, line):
    """The number in a line of file *name*."""
    try:
        return int(line)
    except ValueError:
        raise InvalidInputError("%s: %r is not a whole number" % (name, line[:40])) from None


def read_step_time(params):
    """How long a step lasts, in seconds; the demo's messages give it as text."""
    value = params.get("STEP_RUNNING_TIME", 0)
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InvalidInputError("STEP_RUNNING_TIME %r is not a number of seconds" % (value,))
    return seconds


if __name__ == "__main__":
    sys.exit(main())
