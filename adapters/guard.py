"""Stands between a worker and its workload, so that nothing outlives a worker that is killed with SIGKILL.

Run as a script, in a session of its own, with a lifeline on stdin that only the worker holds the other end of. The
workload is its child, in the same process group. When the lifeline breaks, the whole group is killed. When the workload
ends, its exit code is written down first, and then the group is killed too, so that no grandchild stays behind.

Usage: guard.py EXIT_FILE PROGRAM [ARGUMENT…]. Standard library only, and no import that takes long: it starts once for
every attempt.
"""

import json
import os
import select
import signal
import sys

NOT_STARTED = 127
BY_SIGNAL = 128
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main(exit_file: str, command: list[str]) -> None:
    """Run *command* to its end, or to the lifeline's; then end its whole group, this process included."""
    for number in PASSED_ON:  # the group gets them too; a handler, unlike SIG_IGN, does not stick to the child
        signal.signal(number, lambda *_: None)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    child = os.fork()
    if child == 0:
        become(command)
    code = watch(child, ended)
    if code is not None:
        write_down(exit_file, code)
    os.killpg(0, signal.SIGKILL)


def become(command: list[str]) -> None:
    """Turn this process into *command*."""
    signal.set_wakeup_fd(-1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(command[0], command)  # noqa: S606 - a program of the image's own workloads.toml, and no shell
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(NOT_STARTED)


def watch(child: int, ended: int) -> int | None:
    """Wait for the child's exit code, 128 + n if signal n ended it; None if the lifeline broke first."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else BY_SIGNAL - code
        ready, _, _ = select.select([0, ended], [], [])
        if 0 in ready and not os.read(0, 1):
            return None
        if ended in ready:
            os.read(ended, 4096)


def write_down(exit_file: str, code: int) -> None:
    """Leave the exit code where the worker looks for it, whole or not at all."""
    part = f"{exit_file}.part"
    with open(part, "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib would take longer than all the rest
        json.dump({"code": code}, file)
    os.replace(part, exit_file)  # noqa: PTH105 - the same


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
