"""Run a part of a test without root's privileges, since file modes do not restrict root."""

import os
import shutil
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

NOBODY = 65534


def unprivileged(part: Callable[[Path], None]) -> None:
    """Call *part* with a directory of its own, in a process that is not root; fail if it raises."""
    folder = Path(tempfile.mkdtemp())
    try:
        if os.geteuid():
            part(folder)
            return
        os.chown(folder, NOBODY, NOBODY)
        process = os.fork()
        if not process:
            code = 1
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                part(folder)
                code = 0
            except BaseException:  # noqa: BLE001 - it is printed, and the code says so
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitpid(process, 0)[1] == 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
