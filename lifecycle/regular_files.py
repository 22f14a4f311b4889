"""Reading small files that a workload wrote, or put something else in place of.

It may have made a pipe, at whose opening a reader waits for ever, a link to an endless device, or a file as large as
the disk. Reading it neither blocks nor takes more memory than its limit.
"""

import errno
import os
import stat
from io import FileIO
from pathlib import Path
from typing import Final

FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC


def open_regular(path: Path) -> FileIO:
    """Open a file to read it.

    Raises:
        OSError: It cannot be opened, or is a link, a pipe, a device or a directory.
    """
    file = FileIO(os.open(path, FLAGS), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: It cannot be read, is not a regular file, or is longer than *max_bytes*.
    """
    with open_regular(path) as file:
        content = bytearray()
        while more := file.read(max_bytes + 1 - len(content)):
            content += more
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"longer than {max_bytes} bytes", str(path))
    return bytes(content)
