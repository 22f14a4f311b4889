"""Stands between a worker and its workload, so that nothing outlives a worker that is killed with SIGKILL.

Run as a script, in a session of its own, with a lifeline on stdin that only the worker holds the other end of. The
workload is its child, in the same process group. When the lifeline breaks, the whole group is killed. When the workload
ends, its exit code goes to stdout, which is the worker's pipe, so that no full disk can lose it; and then the group is
killed too, so that no grandchild stays behind.

What the workload writes to stdout and stderr it takes through a pipe, and puts into segments of equal length, of which
only the newest are kept (lifecycle/console.py): so a chatty program fills no disk.

Usage: guard.py CONSOLE_FOLDER SEGMENT_BYTES KEPT PROGRAM [ARGUMENT…]. Standard library only, and no import that takes
long: it starts once for every attempt.
"""

import contextlib
import os
import select
import signal
import sys

NOT_STARTED = 127
BY_SIGNAL = 128
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main(console: "Console", command: list[str]) -> None:
    """Run *command* to its end, or to the lifeline's; then end its whole group, this process included."""
    for number in PASSED_ON:  # the group gets them too; a handler, unlike SIG_IGN, does not stick to the child
        signal.signal(number, lambda *_: None)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    output, its_end = os.pipe()
    child = os.fork()
    if child == 0:
        become(command, its_end)
    os.close(its_end)
    os.set_blocking(output, False)
    try:
        code = watch(child, ended, output, console)
        if code is not None:
            os.write(1, str(code).encode())
            console.take(output)
    finally:  # whatever happens, nothing of it runs on
        os.killpg(0, signal.SIGKILL)


def become(command: list[str], output: int) -> None:
    """Turn this process into *command*."""
    signal.set_wakeup_fd(-1)
    for number in IGNORED_BY_PYTHON:  # which, unlike a handler, would stick to the command
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        os.execvp(command[0], command)  # noqa: S606 - a program of the image's own workloads.toml, and no shell
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(NOT_STARTED)


def watch(child: int, ended: int, output: int, console: "Console") -> int | None:
    """Wait for the child's exit code, 128 + n if signal n ended it; None if the lifeline broke first."""
    sources = [0, ended, output]
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else BY_SIGNAL - code
        ready, _, _ = select.select(sources, [], [])
        if 0 in ready and not os.read(0, 1):
            return None
        if ended in ready:
            os.read(ended, 4096)
        if output in ready and not console.take(output):
            sources.remove(output)


class Console:
    """The newest of what the workload has written, in files of equal length."""

    def __init__(self, folder: str, segment_bytes: int, kept: int) -> None:
        self._folder = folder
        self._bytes = segment_bytes
        self._kept = kept
        self._number = self._length = 0
        self._file = -1

    def take(self, output: int) -> bool:
        """Take what is there; False if no more will come. A full disk loses what is written, and stops nobody."""
        while True:
            try:
                piece = os.read(output, 1 << 16)
            except BlockingIOError:
                return True
            if not piece:
                return False
            with contextlib.suppress(OSError):
                self._write(piece)

    def _write(self, piece: bytes) -> None:
        while piece:
            if self._file < 0:
                self._file = os.open(self._path(self._number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            room = self._bytes - self._length
            written = os.write(self._file, piece[:room])
            piece = piece[written:]
            self._length += written
            if self._length >= self._bytes:
                os.close(self._file)
                self._file, self._length = -1, 0
                self._number += 1
                if self._number > self._kept:
                    os.unlink(self._path(self._number - self._kept - 1))  # noqa: PTH108 - as below

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:06d}.txt"


if __name__ == "__main__":
    main(Console(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])), sys.argv[4:])
