"""The reports of a process supervisor, as its worker reads them; `process_supervisor` lists them."""

import os
import select
import subprocess
from typing import Final

from adapters.process.process_tree import find

READ_BYTES: Final = 1 << 12


class SupervisorReports:
    """Reports of the process supervisor, read without waiting.

    Args:
        supervisor: The process supervisor.
    """

    def __init__(self, supervisor: subprocess.Popen[bytes]) -> None:
        self._pipe = supervisor.stdout
        if self._pipe:
            os.set_blocking(self._pipe.fileno(), False)
        started = find(supervisor.pid)
        self.supervisor_start = started.start if started else 0
        self._unread = b""
        self.code: int | None = None
        self.clean = True
        self.writing = False
        self.stuck = False
        self.freeze = 0
        """Number of the last freeze that was answered."""
        self.obstacle: str | None = None
        """Why that one was not possible."""
        self.kept: bool | None = None
        """Whether everything was stopped until the thaw; None before it."""

    def wait(self, timeout_s: float) -> None:
        """Take in what arrives within *timeout_s*, at least one report if there is any."""
        if self._pipe:
            select.select([self._pipe], [], [], timeout_s)
            self.read()

    def read(self) -> "SupervisorReports":
        """Take in all reports that have arrived."""
        while self._pipe and (new := self._pipe.read(READ_BYTES)):
            *lines, self._unread = (self._unread + new).split(b"\n")
            for line in lines:
                match line.split():
                    case [b"exited", code]:
                        self.code = int(code)
                    case [b"unclean"]:
                        self.clean = False
                    case [b"writing"]:
                        self.writing = True
                    case [b"stuck"]:
                        self.stuck = True
                    case [b"frozen", count]:
                        self.freeze, self.obstacle, self.kept = int(count), None, None
                    case [b"running", count, *why]:
                        self.freeze, self.obstacle, self.kept = int(count), b" ".join(why).decode(), None
                    case [b"thawed", _, kept]:
                        self.kept = kept == b"1"
        return self
