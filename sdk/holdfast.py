"""What a workload says to the Holdfast worker that runs it, and hears from it. One file, standard library, Python 3.8+.

::

    import holdfast

    job = holdfast.job()
    state = load(job.checkpoint_dir) if job.resumed else start(job.input_dir, job.params)
    while not state.finished:
        state.advance()
        job.progress(state.step, state.steps)
        if job.checkpoint_due() or job.should_stop:
            with job.checkpoint(step=state.step) as directory:
                save(state, directory)
        if job.should_stop:
            job.leave()
    write(state.result, job.output_dir)

The worker puts this file on PYTHONPATH, so nothing needs to be installed. Without a worker the same program works in
the current folder (`input/`, `checkpoint/`, `output/`, `params.json`), for debugging.

Other languages speak the same by files in $HOLDFAST_CONTROL_DIR. All are made elsewhere on the same file system and
renamed into place, so that nobody ever sees half of one:

- `progress`: `{"done": 7, "total": 100}`;
- `announced/7.json`: `{"step": 70}`, and then `announced/7/`: a directory that holds a whole checkpoint; numbers rise;
- `save-requested`: made by the worker when it wants a checkpoint soon; removed by whoever makes one.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time

SAVED_RUN_ME_AGAIN = 75
DEFAULT_SAVING_INTERVAL_S = 600.0


def job():
    """The job that this process runs.

    In the main thread it also takes SIGTERM (a handler that was there before is still called), so that `should_stop`
    can tell.
    """
    return Job(os.environ)


class Job:
    """One job, seen from inside.

    Attributes:
        id: The job's id.
        attempt: The number of this attempt, from 1.
        resumed: Whether `checkpoint_dir` holds what was saved last.
        params: The job's parameters, a dict of JSON values.
        input_dir: Where the input lies.
        checkpoint_dir: Where the restored checkpoint lies.
        output_dir: Where the results go; what lies there when the program exits 0 is the result.
    """

    def __init__(self, environ):
        """Read the environment that the worker made, or make one in the current folder."""
        here = os.getcwd()
        self.id = environ.get("HOLDFAST_JOB", "local")
        self.attempt = int(environ.get("HOLDFAST_ATTEMPT", "1"))
        self.input_dir = environ.get("HOLDFAST_INPUT_DIR", os.path.join(here, "input"))
        self.checkpoint_dir = environ.get("HOLDFAST_CHECKPOINT_DIR", os.path.join(here, "checkpoint"))
        self.output_dir = environ.get("HOLDFAST_OUTPUT_DIR", os.path.join(here, "output"))
        self._control = environ.get("HOLDFAST_CONTROL_DIR")
        self._interval_s = float(environ.get("HOLDFAST_SAVING_INTERVAL", DEFAULT_SAVING_INTERVAL_S))
        for directory in (self.checkpoint_dir, self.output_dir):
            os.makedirs(directory, exist_ok=True)
        resumed = environ.get("HOLDFAST_RESUMED")
        self.resumed = bool(os.listdir(self.checkpoint_dir)) if resumed is None else resumed == "1"
        self.params = _read_json(environ.get("HOLDFAST_PARAMS", os.path.join(here, "params.json")))
        self._saved_at = time.monotonic()
        self._stopping = False
        self._listen()

    @property
    def should_stop(self):
        """Whether the worker asked the program to save and leave."""
        return self._stopping

    def progress(self, done, total=None):
        """Say how many steps are done, of how many. Cheap, but not free: some ten times a second is enough."""
        if self._control:
            _write_json(self._control, "progress", {"done": done, "total": total})

    def checkpoint_due(self):
        """Whether it is time to save: the interval is over, or the worker asks."""
        return time.monotonic() - self._saved_at >= self._interval_s or (
            self._control is not None and os.path.exists(os.path.join(self._control, "save-requested"))
        )

    @contextlib.contextmanager
    def checkpoint(self, step=None):
        """Save a whole checkpoint: write every file of it into the directory that this yields.

        When the block ends, the checkpoint is announced, whole; when it raises, nothing is.
        """
        parent = self._control or os.path.dirname(os.path.abspath(self.checkpoint_dir))
        staging = tempfile.mkdtemp(prefix="staging-", dir=parent)
        try:
            yield staging
            if self._control:
                self._announce(staging, step)
            else:
                self._replace_local(staging)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._saved_at = time.monotonic()

    def leave(self):
        """End the program, saying: saved, run me again."""
        sys.exit(SAVED_RUN_ME_AGAIN)

    def _announce(self, staging, step):
        announced = os.path.join(self._control, "announced")
        os.makedirs(announced, exist_ok=True)
        numbers = [int(name[:-5]) for name in os.listdir(announced) if name.endswith(".json") and name[:-5].isdigit()]
        number = max(numbers, default=0) + 1
        _write_json(announced, "%d.json" % number, {"step": step})
        os.rename(staging, os.path.join(announced, str(number)))
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(self._control, "save-requested"))

    def _replace_local(self, staging):
        aside = staging + ".old"
        os.rename(self.checkpoint_dir, aside)
        os.rename(staging, self.checkpoint_dir)
        shutil.rmtree(aside, ignore_errors=True)

    def _listen(self):
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGTERM)

        def stop(number, frame):
            self._stopping = True
            if callable(before):
                before(number, frame)

        signal.signal(signal.SIGTERM, stop)


def _read_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def _write_json(directory, name, value):
    part = os.path.join(directory, ".%s.%d" % (name, os.getpid()))
    with open(part, "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(part, os.path.join(directory, name))
