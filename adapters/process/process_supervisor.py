"""The process between a worker and its workload, which ends the workload even if the worker is killed with SIGKILL.

It runs as a script, in a session of its own. The worker holds the other end of its stdin; the workload is its child, in
the same process group. If stdin closes, the worker is gone, and the whole group is killed. If the workload exits, its
exit code is written to stdout, a pipe to the worker, so that a full disk cannot lose it; then the group is killed, so
that no grandchild is left behind.

The workload's stdout and stderr come through a pipe and are written to segments of equal length, of which only the
newest are kept (`lifecycle.attempt.console_segments`), so that a verbose program cannot fill the disk.

Usage: process_supervisor.py CONSOLE_FOLDER SEGMENT_BYTES KEPT PROGRAM [ARGUMENT…]

It uses only the standard library and only fast imports, because it starts once per attempt.
"""

import contextlib
import os
import select
import signal
import sys

NOT_STARTED = 127  # as a shell reports a command that it cannot run
BY_SIGNAL = 128  # plus the signal's number, as a shell reports it
READ_BYTES = 1 << 16
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
SENT_TO_GROUP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main(console: "Console", command: list[str]) -> None:
    """Run *command* until it exits or stdin closes; then kill the whole group, this process included."""
    # Signals to the group are meant for the workload. A handler, unlike SIG_IGN, is not inherited by the child.
    for number in SENT_TO_GROUP:
        signal.signal(number, lambda *_: None)
    child_exited, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    output, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        execute(command, write_end)
    os.close(write_end)
    os.set_blocking(output, False)
    try:
        code = wait(child, child_exited, output, console)
        if code is not None:
            os.write(1, str(code).encode())
            console.drain(output)
    finally:  # on any exception too, nothing keeps running
        os.killpg(0, signal.SIGKILL)


def execute(command: list[str], output: int) -> None:
    """Replace this process by *command*."""
    signal.set_wakeup_fd(-1)
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


def wait(child: int, child_exited: int, output: int, console: "Console") -> int | None:
    """Return the child's exit code, 128 + n if signal n killed it; None if stdin closed first."""
    sources = [0, child_exited, output]
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else BY_SIGNAL - code
        ready, _, _ = select.select(sources, [], [])
        if 0 in ready and not os.read(0, 1):
            return None
        if child_exited in ready:
            os.read(child_exited, 4096)
        if output in ready and not console.drain(output):
            sources.remove(output)


class Console:
    """The end of the workload's output, in files of equal length."""

    def __init__(self, folder: str, segment_bytes: int, kept: int) -> None:
        self._folder = folder
        self._bytes = segment_bytes
        self._kept = kept
        self._number = self._length = 0
        self._file = -1

    def drain(self, output: int) -> bool:
        """Store what can be read now; return False at the end. On a full disk, output is lost but read all the same."""
        while True:
            try:
                content = os.read(output, READ_BYTES)
            except BlockingIOError:
                return True
            if not content:
                return False
            with contextlib.suppress(OSError):
                self._write(content)

    def _write(self, content: bytes) -> None:
        while content:
            if self._file < 0:
                self._file = os.open(self._path(self._number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            room = self._bytes - self._length
            written = os.write(self._file, content[:room])
            content = content[written:]
            self._length += written
            if self._length >= self._bytes:
                os.close(self._file)
                self._file, self._length = -1, 0
                self._number += 1
                if self._number > self._kept:
                    os.unlink(self._path(self._number - self._kept - 1))  # noqa: PTH108 - pathlib takes long to import

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:06d}.txt"


if __name__ == "__main__":
    main(Console(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])), sys.argv[4:])
