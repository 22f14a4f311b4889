"""The processes of this machine as a tree, and signals that reach no wrong process.

The process supervisor imports this module, so it uses only the standard library and only fast imports.
"""

import contextlib
import ctypes
import os
import signal
import time

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
AGREEING_SCANS = 2  # without a process of the job, before it is taken to be gone
RESCAN_S = 0.01
DEAD_STATES = (b"Z", b"X")
STOPPED_STATES = (b"T", b"t", b"Z", b"X")
UNINTERRUPTIBLE = b"D"


class Process:
    """A process as /proc shows it.

    Attributes:
        pid: Its id.
        exited: Whether its main thread has exited; others may still run.
        parent: Id of its parent.
        group: Id of its process group.
        session: Id of its session.
        start: When it started, in clock ticks since boot.
    """

    __slots__ = ("exited", "group", "parent", "pid", "session", "start")

    def __init__(self, pid: int, stat: bytes) -> None:
        fields = stat.rpartition(b")")[2].split()  # man 5 proc_pid_stat, from the third field on
        self.pid = pid
        self.exited = fields[0] == b"Z"
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.start = int(fields[19])

    @property
    def key(self) -> tuple[int, int]:
        """Identity that is never used again."""
        return self.pid, self.start

    def names(self) -> set[str]:
        """Return the names of the file that it executes and of its main thread."""
        found = set()
        with contextlib.suppress(OSError):
            found.add(os.path.basename(os.readlink(f"/proc/{self.pid}/exe")))  # noqa: PTH115, PTH119 - slow to import
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/comm") as file:  # noqa: PTH123
            found.add(file.read().strip())
        return found

    def is_stopped(self) -> bool:
        """Return whether none of its threads runs: SIGSTOP takes effect a little later, and for each thread apart."""
        states = self._thread_states()
        if not all(state in STOPPED_STATES for state in states.values()):
            return False
        return states.keys() == self._thread_states().keys()  # one that was still running may have started another

    def is_dead(self) -> bool:
        """Return whether all of its threads have exited."""
        return all(state in DEAD_STATES for state in self._thread_states().values())

    def obstacle(self) -> str:
        """Return why a stop signal has no effect on it, as far as that can be told."""
        if UNINTERRUPTIBLE in self._thread_states().values():
            return "it waits in the kernel (state D), for a disk or a driver"
        return "it runs on, perhaps as another user"

    def _thread_states(self) -> dict[str, bytes]:
        """Return the state of each of its threads, by id; nothing if it is gone."""
        found = {}
        with contextlib.suppress(OSError):  # it has just exited
            for thread in os.listdir(f"/proc/{self.pid}/task"):  # noqa: PTH208
                stat = f"/proc/{self.pid}/task/{thread}/stat"
                with contextlib.suppress(OSError, IndexError), open(stat, "rb") as file:  # noqa: PTH123
                    found[thread] = file.read().rpartition(b")")[2].split()[0]
        return found

    def dies_of(self, number: int) -> bool:
        """Return whether it neither handles nor ignores this signal."""
        try:
            with open(f"/proc/{self.pid}/status") as file:  # noqa: PTH123
                masks = [int(line.split()[1], 16) for line in file if line.startswith(("SigIgn:", "SigCgt:"))]
        except (OSError, ValueError):
            return False
        return not any(mask >> (number - 1) & 1 for mask in masks)

    def is_writing(self, folders: tuple[str, ...]) -> bool:
        """Return whether it has a file below *folders* open for writing, other than for appending."""
        base = f"/proc/{self.pid}"
        try:
            numbers = os.listdir(f"{base}/fd")  # noqa: PTH208
        except OSError:  # it has exited, or is of another user
            return False
        for number in numbers:
            with contextlib.suppress(OSError, ValueError, StopIteration):
                if os.readlink(f"{base}/fd/{number}").startswith(folders):  # noqa: PTH115
                    with open(f"{base}/fdinfo/{number}") as file:  # noqa: PTH123
                        flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
                    if flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_APPEND:
                        return True
        return False

    def send(self, number: int) -> bool:
        """Send it a signal, and no other process that has its id by now; return whether it was sent."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        except OSError:  # a kernel before 5.3, or a sandbox that does not offer it
            with contextlib.suppress(OSError):
                os.kill(self.pid, number)
                return True
            return False
        try:
            now = find(self.pid)
            if now is None or now.start != self.start:
                return False
            signal.pidfd_send_signal(handle, number)
        except OSError:  # gone, or of another user
            return False
        finally:
            os.close(handle)
        return True


def find(pid: int) -> Process | None:
    """Return the process with this id; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return Process(pid, file.read())
    except (OSError, IndexError, ValueError):
        return None


def children() -> dict[int, list[Process]]:
    """Return all processes by their parent's id."""
    found: dict[int, list[Process]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        process = find(int(name)) if name.isdigit() else None
        if process:
            found.setdefault(process.parent, []).append(process)
    return found


def descendants(ancestor: int, by_parent: dict[int, list[Process]]) -> list[Process]:
    """Return the descendants of a process, parents first."""
    found: list[Process] = []
    parents = [ancestor]
    while parents:
        born = [child for parent in parents for child in by_parent.get(parent, ())]
        found += born
        parents = [child.pid for child in born]
    return found


def become_subreaper() -> bool:
    """Inherit the processes of descendants that exit; return whether the system allows that. Safe to repeat."""
    try:
        return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def end_inherited(*, since: int, timeout_s: float) -> bool:
    """Kill and reap what this process has inherited from a process supervisor; return whether all of it is gone.

    Processes of the job are told from the worker's own helpers by their session and their age.

    Args:
        since: Start of the process supervisor, in clock ticks since boot.
        timeout_s: Give up after so long.
    """
    deadline, session, agreeing = time.monotonic() + timeout_s, os.getsid(0), 0
    while agreeing < AGREEING_SCANS and time.monotonic() < deadline:
        by_parent = children()
        left = [each for each in descendants(os.getpid(), by_parent) if each.session != session and each.start >= since]
        agreeing = 0 if left else agreeing + 1
        for process in left:
            process.send(signal.SIGKILL)
            if process.parent == os.getpid():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
        if left:
            time.sleep(RESCAN_S)
    return agreeing >= AGREEING_SCANS
