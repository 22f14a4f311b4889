"""sink.c as a process, over TLS like R2, with a certificate of its own authority; compiled on demand."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trustme
from attrs import frozen

SOURCE: Final = Path(__file__).with_name("sink.c")


@frozen
class Sink:
    """A running server.

    Attributes:
        url: Its address.
        trust: Environment variables that make clients trust it; each client reads another name.
    """

    url: str
    trust: dict[str, str]


@contextmanager
def sink(place: Path, *, round_trip_s: float = 0.0, core: int | None = None) -> Iterator[Sink]:
    """Compile the server in *place* and run it, pinned to *core* if given.

    Raises:
        RuntimeError: It cannot be compiled.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(place / "ca.pem"))
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(place / "server.pem"))
    words = [str(compile_sink(place)), str(round_trip_s * 1000), *[str(place / "server.pem")] * 2]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        if core is not None:
            os.sched_setaffinity(server.pid, {core})
        assert server.stdin is not None  # noqa: S101 - tells the type checker
        assert server.stdout is not None  # noqa: S101 - the same
        port = server.stdout.readline().strip()
        yield Sink(
            f"https://localhost:{port}", dict.fromkeys(("AWS_CA_BUNDLE", "SSL_CERT_FILE"), str(place / "ca.pem"))
        )
        server.stdin.close()
        server.wait(timeout=10)


def compile_sink(place: Path) -> Path:
    """Compile the program, and return its path."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("benchmarks/sink.c needs a C compiler: apt-get install gcc libssl-dev")
    words = [compiler, "-O2", "-o", str(place / "sink"), str(SOURCE), "-lssl", "-lcrypto", "-lpthread"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"benchmarks/sink.c does not compile; try apt-get install libssl-dev: {done.stderr.strip()[:500]}"
        )
    return place / "sink"
