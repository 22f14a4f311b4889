"""The first process of a workload: what it gets, between the fork and its program.

The process supervisor imports this module, so it uses only the standard library and only fast imports.
"""

import contextlib
import os
import signal

NOT_STARTED = 127  # as a shell reports a command that it cannot run
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
OOM_SCORE = "/proc/self/oom_score_adj"
OOM_SPARED = -900  # the kernel kills the workload first


def lower_oom_score() -> bytes | None:
    """Let the kernel kill others first when memory is short, where that is allowed; return the score before."""
    try:
        with open(OOM_SCORE, "r+b", buffering=0) as file:  # noqa: PTH123
            before = file.read()
            file.write(str(OOM_SPARED).encode())
            return before
    except OSError:  # it takes CAP_SYS_RESOURCE
        return None


def execute(command: list[str], output: int, oom_score: bytes | None) -> None:
    """Replace this process by *command*, in a session of its own."""
    signal.set_wakeup_fd(-1)
    os.setsid()
    if oom_score is not None:
        with contextlib.suppress(OSError), open(OOM_SCORE, "wb") as file:  # noqa: PTH123
            file.write(oom_score)
    for number in IGNORED_BY_PYTHON:  # ignored signals, unlike handlers, are inherited
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        os.execvp(command[0], command)  # noqa: S606 - a program from the image's workloads.toml, without a shell
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(NOT_STARTED)
