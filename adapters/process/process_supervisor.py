"""The process between a worker and its workload: the parent of all that the workload starts.

It runs as a script, in a session of its own, and is a child subreaper
(https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html): daemons, and processes in sessions of their
own, become its children when their parents exit. It ends only when it has no child left. If the worker dies, even by
SIGKILL, it kills them all.

The worker holds the other ends of its stdin and stdout. stdin takes commands of one byte, and its end means that the
worker is gone:

    f  stop all processes for a moment: they are frozen
    t  thaw them
    s  pass the stop signal on (`SupervisedJob.stop`)
    k  kill everything

stdout, which a full disk cannot lose, gives reports of one line; its end means that nothing is left:

    exited CODE    the leader, the process that the worker asked for, has exited; 128 + n if signal n ended it
    unclean        a process that may have been saving did not exit by itself
    writing        a file of the state was open for writing when the processes were killed
    stuck          a process is still there STUCK_S after SIGKILL
    frozen N       freeze N: everything is stopped
    running N WHY  freeze N: that was not possible, and everything was continued
    thawed N KEPT  freeze N is over; KEPT is 1 if everything was stopped until the worker asked for the thaw

A freeze lasts FREEZE_LIMIT seconds at most, whatever the worker does. Meanwhile the output waits in its pipe, so that a
disk that hangs cannot hold up the thaw. A request to stop or to kill ends it.

The workload's stdout and stderr come through a pipe and are written to segments of equal length, of which only the
newest are kept (`lifecycle.attempt.console_segments`), so that a verbose program cannot fill the disk.

Usage: process_supervisor.py CONSOLE_FOLDER SEGMENT_BYTES KEPT STOP_SIGNAL STOP SETTLED FREEZE_LIMIT PROGRAM [ARGUMENT…]

STOP is a `lifecycle.ports.runner.StopScope`; SETTLED are the exit codes, separated by commas, that mean *saved* or
*done*. It uses only the standard library and only fast imports, because it starts once per attempt.
"""

import contextlib
import os
import select
import signal
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - pathlib takes long to import
sys.path.append(ROOT)

from adapters.process.console import Console  # noqa: E402
from adapters.process.freezer import Freezer  # noqa: E402
from adapters.process.leader import execute, lower_oom_score  # noqa: E402
from adapters.process.process_tree import Process, become_subreaper, children, descendants, find  # noqa: E402

KILL = b"k"  # in place of a command, when the worker is gone
BY_SIGNAL = 128  # plus the signal's number, as a shell reports it
READ_BYTES = 1 << 16
READS_IN_A_ROW = 16
NOT_FOR_US = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
LEFTOVERS_S = 2.0  # between SIGTERM and SIGKILL, for processes that the leader leaves behind
STUCK_S = 10.0  # after SIGKILL; a process that is still there hangs in the kernel
STATE_FOLDERS = ("checkpoint", "output")
MOST_TRIES = 10  # to find a moment at which no file is open for writing
LONGEST_WAIT_S = 0.05
STOPPED_WITHIN_S = 0.05
EXITED_WITHIN_S = 1.0  # a shell whose default action for the signal is to die
POLL_S = 0.001
RESCAN_S = 0.01  # between two scans while everything is killed
STUCK_RESCAN_S = 1.0
MOST_SCANS = 10  # in a row; a shell may start one process after the other
SHELLS = frozenset(("sh", "ash", "bash", "dash", "ksh", "zsh", "busybox"))
INIT_SHIMS = frozenset(("tini", "tini-static", "dumb-init", "docker-init", "catatonit"))  # they pass signals on
WRAPPERS = SHELLS | INIT_SHIMS


class SupervisedJob:
    """The leader and everything that it has started.

    Args:
        leader: The leader's process id.
        stop_signal: Signal that asks it to save and exit.
        scope: Which processes get that signal (`lifecycle.ports.runner.StopScope`).
        settled: Exit codes that mean *saved* or *done*.
        freeze_limit_s: How long it may be frozen, in seconds.
    """

    def __init__(
        self, leader: int, *, stop_signal: int, scope: str, settled: frozenset[int], freeze_limit_s: float
    ) -> None:
        self._leader = leader
        self._stop_signal = stop_signal
        self._scope = scope
        self._settled = settled
        self._code: int | None = None  # of the leader
        self._stopping = False
        self._saved = False
        self._leader_names: set[str] = set()
        self._signalled: set[tuple[int, int, int]] = set()
        self._savers: dict[int, Process] = {}  # by id: programs that got the stop signal, and may save before they exit
        self._folders = tuple(f"{os.getcwd()}/{name}/" for name in STATE_FOLDERS)  # noqa: PTH109
        self._freezer = Freezer(freeze_limit_s)
        self._freezes = 0
        self._kill_at: float | None = None
        self._stuck_at: float | None = None
        self._is_stuck = False

    def stop(self) -> None:
        """Ask the program to save and exit. Only the first call counts."""
        self._end_freeze(kept=False)
        leader = find(self._leader)
        if leader and not self._stopping and self._code is None:
            self._stopping = True
            self._leader_names = leader.names()
            self._pass_on()

    def kill(self) -> None:
        """Kill everything, again and again until nothing is left. Safe to repeat."""
        if self.is_frozen:
            self._freezer.forget()
            report(f"thawed {self._freezes} 0")
        self._kill_by(time.monotonic())
        self.advance()

    @property
    def is_frozen(self) -> bool:
        """Whether its processes are stopped for a moment."""
        return self._freezer.is_frozen

    def freeze(self) -> None:
        """Stop all processes for a moment, and report whether that succeeded; not while they are being ended."""
        self._end_freeze(kept=False)
        self._freezes += 1
        is_ending = self._stopping or self._code is not None or self._kill_at is not None
        problem = "it is ending" if is_ending else self._freezer.freeze()
        report(f"frozen {self._freezes}" if problem is None else f"running {self._freezes} {problem}")

    def thaw(self) -> None:
        """Continue the processes that `freeze` has stopped. Safe to repeat."""
        self._end_freeze(kept=True)

    def _end_freeze(self, *, kept: bool) -> None:
        if self.is_frozen:
            stayed = self._freezer.thaw()
            report(f"thawed {self._freezes} {int(kept and stayed)}")

    def timeout(self) -> float | None:
        """Return after how many seconds `advance` has something to do; None if only an event brings that about."""
        if self.is_frozen:
            return self._freezer.remaining_s()
        if self._kill_at is None:
            return None
        if self._stuck_at is None:
            return max(self._kill_at - time.monotonic(), 0.0)
        return RESCAN_S if time.monotonic() < self._stuck_at else STUCK_RESCAN_S

    def reap(self) -> bool:
        """Take in all that have exited; return whether any is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            code = os.waitstatus_to_exitcode(status)
            self._on_exited(pid, code if code >= 0 else BY_SIGNAL - code)

    def _on_exited(self, pid: int, code: int) -> None:
        saver = self._savers.pop(pid, None)
        if saver and code >= BY_SIGNAL:
            report("unclean")
        if pid == self._leader:
            self._code = code
            report(f"exited {code}")
            if code >= BY_SIGNAL and not saver and not self._leader_names & SHELLS:
                report("unclean")
        if (saver or pid == self._leader) and code in self._settled:
            self._saved = True
        if self._code is not None and not (self._stopping and self._may_save()):
            self._kill_by(time.monotonic() + LEFTOVERS_S)

    def _may_save(self) -> bool:
        """Return whether anything that the leader has left behind may still be saving."""
        if self._code in self._settled:
            return False
        return not self._saved or any(is_running(saver) for saver in self._savers.values())

    def _kill_by(self, moment: float) -> None:
        self._kill_at = moment if self._kill_at is None else min(self._kill_at, moment)

    def advance(self) -> None:
        """Send the signals that are due.

        While the leader lives, processes that it has started after the stop get no signal: they may be saving. A freeze
        defers everything until it is over, at its limit at the latest.
        """
        if self.is_frozen:
            if self._freezer.remaining_s():
                return
            self._end_freeze(kept=False)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_all()
        elif self._code is not None:
            self._pass_on()

    def _pass_on(self) -> None:
        """Send the present signal, and scan again until a scan finds no new process: a tree may fork meanwhile."""
        for _ in range(MOST_SCANS):
            if not self._signal_new():
                break

    def _signal_new(self) -> bool:
        """Send the present signal to the processes that are to have it and had it not; return whether any was sent."""
        by_parent = children()
        programs = self._programs(by_parent)
        leaving = self._kill_at is not None
        number = signal.SIGTERM if leaving else self._stop_signal
        to_all = leaving or self._scope == "group"
        new = [
            process
            for process in (descendants(os.getpid(), by_parent) if to_all else programs)
            if (*process.key, number) not in self._signalled and not process.exited
        ]
        is_program = {process.key for process in programs}
        stopped = [] if leaving else self._stop_between_writes([each for each in new if _dies_writing(each, number)])
        dying_shells = [each for each in new if each.names() & SHELLS and each.dies_of(number)]
        for process in dying_shells + [each for each in new if each not in dying_shells]:
            self._signalled.add((*process.key, number))
            names = process.names()
            if names & INIT_SHIMS and by_parent.get(process.pid) and not to_all and self._scope == "program":
                continue  # it would pass the signal on to its child, which gets it from here
            if process not in dying_shells:
                await_exit(dying_shells)
            if process.send(number) and process.key in is_program and not leaving and not names & SHELLS:
                self._savers[process.pid] = process
        resume(stopped)
        return bool(new)

    def _programs(self, by_parent: dict[int, list[Process]]) -> list[Process]:
        """Return the processes that stand for the program: wrappers (shells and init shims) and what they run.

        That is the leader alone if it is no wrapper, because it may need what it has started for saving. If it is one,
        or is dead, everything adopted counts too.
        """
        ours = by_parent.get(os.getpid(), [])
        through = self._scope != "leader"
        if self._code is None and not (through and self._leader_names & WRAPPERS):
            ours = [process for process in ours if process.pid == self._leader]
        found = list(ours)
        for process in found:  # grows meanwhile
            if through and process.names() & WRAPPERS:
                found += by_parent.get(process.pid, [])
        return found

    def _stop_between_writes(self, dying: list[Process]) -> list[Process]:
        """Stop processes, for their death, at a moment at which none of them is writing to a file of the state.

        Returns:
            The processes to continue. There are none if no such moment was found in time.
        """
        for _ in range(MOST_TRIES):
            running = [process for process in dying if not process.is_stopped()]
            for process in running:
                process.send(signal.SIGSTOP)
            deadline = time.monotonic() + STOPPED_WITHIN_S
            while not all(process.is_stopped() for process in running) and time.monotonic() < deadline:
                time.sleep(POLL_S)
            if not any(process.is_writing(self._folders) for process in running):
                return running
            resume(running)
            time.sleep(LONGEST_WAIT_S * os.urandom(1)[0] / 255)  # at random, against the rhythm of the program
        report("writing")
        return []

    def _kill_all(self) -> None:
        if self._stuck_at is None:
            if self._stopping:
                self._stop_between_writes(descendants(os.getpid(), children()))
            self._stuck_at = time.monotonic() + STUCK_S
            report("unclean")
        elif time.monotonic() >= self._stuck_at and not self._is_stuck:
            self._is_stuck = True
            report("stuck")
        for process in descendants(os.getpid(), children()):
            process.send(signal.SIGKILL)


def _dies_writing(process: Process, number: int) -> bool:
    """Return whether it is a program that a signal ends without warning, perhaps in the middle of a file.

    A process group of its own within a session is left out: if its parent died while a member is stopped, the kernel
    would send SIGHUP to all members (https://man7.org/linux/man-pages/man2/_exit.2.html).
    """
    return process.dies_of(number) and process.group == process.session and not process.names() & WRAPPERS


def await_exit(shells: list[Process]) -> None:
    """Wait until these have exited: a shell that is still dying could take its child's exit code with it."""
    deadline = time.monotonic() + EXITED_WITHIN_S
    while any(is_running(shell) for shell in shells) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def is_running(process: Process) -> bool:
    """Return whether the process is still there and has not exited."""
    now = find(process.pid)
    return now is not None and now.key == process.key and not now.exited


def resume(stopped: list[Process]) -> None:
    """Continue processes; children first, so that no parent sees a stopped child."""
    for process in reversed(stopped):
        process.send(signal.SIGCONT)


def report(line: str) -> None:
    """Tell the worker, if it is still there."""
    with contextlib.suppress(OSError):
        os.write(1, line.encode() + b"\n")


def main(
    console: Console,
    command: list[str],
    *,
    stop_signal: int,
    scope: str,
    settled: frozenset[int],
    freeze_limit_s: float,
) -> None:
    """Run *command* until nothing of it is left."""
    # Signals to this process are meant for others. A handler, unlike SIG_IGN, is not inherited by the child.
    for number in NOT_FOR_US:
        signal.signal(number, lambda *_: None)
    child_exited, wake = os.pipe()
    os.set_blocking(child_exited, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    become_subreaper()
    oom_score = lower_oom_score()
    output, write_end = os.pipe()
    leader = os.fork()
    if leader == 0:
        execute(command, write_end, oom_score)
    os.close(write_end)
    os.set_blocking(output, False)
    job = SupervisedJob(leader, stop_signal=stop_signal, scope=scope, settled=settled, freeze_limit_s=freeze_limit_s)
    try:
        supervise(job, child_exited, output, console)
    finally:  # on any exception too, nothing keeps running
        while job.reap():
            job.kill()
            time.sleep(RESCAN_S)


def obey(job: SupervisedJob, commands: bytes) -> None:
    """Carry out the worker's commands, in order."""
    for command in commands:
        match bytes((command,)):
            case b"f":
                job.freeze()
            case b"t":
                job.thaw()
                job.advance()
            case b"s":
                job.stop()
            case b"k":
                job.kill()


def supervise(job: SupervisedJob, child_exited: int, output: int, console: Console) -> None:
    """Do what the worker asks for, and keep the output, until no process is left."""
    sources = [0, child_exited, output]
    while job.reap():
        watched = [source for source in sources if source != output] if job.is_frozen else sources
        ready, _, _ = select.select(watched, [], [], job.timeout())
        if output in ready and not console.drain(output, reads=READS_IN_A_ROW):
            sources.remove(output)
        if child_exited in ready:
            os.read(child_exited, READ_BYTES)
            job.reap()
            job.advance()
        if 0 in ready:
            commands = os.read(0, READ_BYTES)
            if not commands:
                sources.remove(0)
            obey(job, commands or KILL)
        if not ready or job.is_frozen:
            job.advance()
    console.drain(output)


if __name__ == "__main__":
    folder, segment_bytes, kept, stop_signal, scope, settled, freeze_limit, *command = sys.argv[1:]
    main(
        Console(folder, int(segment_bytes), int(kept)),
        command,
        stop_signal=int(stop_signal),
        scope=scope,
        settled=frozenset(map(int, filter(None, settled.split(",")))),
        freeze_limit_s=float(freeze_limit),
    )
