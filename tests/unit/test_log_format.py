"""Log lines carry their event, fields and attempt in every form, and never contain a secret."""

import io
import json
import logging
import re
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import urllib3
from botocore.exceptions import ConnectTimeoutError
from support.cluster import Cluster
from urllib3.exceptions import HeaderParsingError

from adapters.redaction import Redactor
from adapters.telemetry.log_format import AttemptContextProcessor, configure
from client.config.secret_redaction import redactor_of
from client.config.settings import from_environ
from lifecycle.errors import ConfigError
from lifecycle.structured_log import StructuredLogger

SECRET = 'wJalr/XUtn+FEMI "quoted" K7MDENG\'é'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    """Restore the handlers and hooks of the process."""
    root, ours = logging.getLogger(), logging.getLogger("holdfast")
    before = (root.handlers[:], root.level, ours.level, sys.excepthook, threading.excepthook, warnings.showwarning)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    sys.excepthook, threading.excepthook, warnings.showwarning = before[3:]


def logging_to(
    stream: io.StringIO, context: AttemptContextProcessor | None = None, **more: Any
) -> Callable[[], list[dict[str, Any]]]:
    """Log to *stream*; return a function that returns the lines so far."""
    given = {"kind": "auto", "level": "info", "redact": Redactor([SECRET]), **more}
    configure(context=context or AttemptContextProcessor("node1"), stream=stream, **given)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_names_its_node_and_attempt(tmp_path: Path) -> None:
    """Every line has the node. Job, epoch and state are there during the attempt and on its last line."""
    cluster, context = Cluster(tmp_path), AttemptContextProcessor("node1")
    lines = logging_to(io.StringIO(), context)
    cluster.submit("a")
    cluster.worker(observers=[context]).run()
    written = lines()
    assert {line["node"] for line in written} == {"node1"}
    saved = [line for line in written if line["event"] == "checkpoint"]
    assert [(line["job"], line["epoch"], line["seq"]) for line in saved] == [("a", 1, number) for number in range(1, 5)]
    last = next(line for line in written if line["event"] == "attempt.ended")
    assert (last["job"], last["epoch"], last["state"], last["outcome"]) == ("a", 1, "completed", "completed")
    assert "job" not in written[-1], "it says that the worker was idle"
    assert written[-1]["event"] == "worker.idled_out"
    assert [line for line in written if "job" not in line] == written[-1:]


def test_a_line_of_another_job_has_no_epoch(tmp_path: Path) -> None:
    """A line between attempts that names its job does not get the epoch of the last attempt."""
    cluster, context = Cluster(tmp_path), AttemptContextProcessor("node1")
    lines = logging_to(io.StringIO(), context)
    cluster.submit("a")
    cluster.worker(observers=[context], max_jobs=1).run()
    StructuredLogger("holdfast.worker").info("message.released", job="b", reason=ConfigError("busy"))
    line = lines()[-1]
    assert (line["event"], line["job"], line["reason"]) == ("message.released", "b", "busy")
    assert "epoch" not in line


@pytest.mark.parametrize(
    ("kind", "stream", "is_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("text", io.StringIO(), False),
    ],
)
def test_a_terminal_gets_text_and_a_file_json(kind: str, stream: io.StringIO, *, is_json: bool) -> None:
    """The destination selects the form unless it is set, and only a terminal gets colours."""
    logging_to(stream, kind=kind)
    StructuredLogger("holdfast.worker").info("worker.started", workloads="series-sum", empty=None)
    text = stream.getvalue()
    assert text.startswith("{") == is_json
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    if is_json:
        line = json.loads(text)
        assert (line["event"], line["workloads"]) == ("worker.started", "series-sum")
    else:
        assert re.search(r"worker\.started +\[holdfast\.worker\].* workloads=series-sum", plain)
    assert "empty" not in text
    assert ("\x1b[" in text) == (stream.isatty() and not is_json)
    assert text.count("\n") == 1


@pytest.mark.parametrize("kind", ["json", "text"])
def test_no_secret_in_any_form(kind: str) -> None:
    """Secrets are redacted in messages, fields and tracebacks, and in every quoted, escaped or URL-encoded form."""
    stream = io.StringIO()
    logging_to(stream, kind=kind)
    log = StructuredLogger("holdfast.worker")
    logging.getLogger("botocore").error("the key %s is refused", SECRET)
    log.error("call.failed", headers={"x-amz-security-token": f"{SECRET}\n"})
    log.error("call.failed", url=f"http://x/?token={quote(SECRET, safe='')}", error=repr(SECRET.encode()))

    def put_header(held_here: str) -> None:
        raise ValueError(f"Invalid header value {held_here!r}")

    try:
        put_header(SECRET)
    except ValueError:
        log.exception("call.failed")
    text = stream.getvalue()
    assert "Invalid header value" in text
    assert "Traceback" in text
    for part in ("wJalr", "FEMI", "K7MDENG"):
        assert part not in text, part
    assert text.count("…") == 5


def test_short_values_are_not_redacted() -> None:
    """A short value is not redacted, and the longer of two secrets with a common start is redacted whole."""
    assert Redactor(["a", "abc"])("abcab") == "abcab"
    assert Redactor(["secret", "secret-and-more"])("secret-and-more, secret") == "…, …"
    assert Redactor([])("text") == "text"


def test_every_secret_setting_is_masked() -> None:
    """Every secret setting is redacted, and no other."""
    cloud = {name: f"value-of-{name}" for name in ("AWS_ID", "AWS_KEY", "CLOUDFLARE_ID", "CLOUDFLARE_KEY", "AWS_TOKEN")}
    places = {
        "CLOUDFLARE_URL": "https://x.example",
        "BUCKET": "b",
        "QUEUE_URL": "https://sqs.us-east-2.x.com/1/q",
    }
    mask = redactor_of(from_environ({**cloud, **places}, None))
    assert mask("value-of-AWS_KEY value-of-CLOUDFLARE_KEY value-of-AWS_TOKEN value-of-AWS_ID") == (
        "… … … value-of-AWS_ID"
    )


def test_uncaught_exceptions_are_log_lines() -> None:
    """Uncaught exceptions of any thread, and warnings, are lines of the same form without secrets."""
    lines = logging_to(io.StringIO())

    def fail() -> None:
        raise RuntimeError(SECRET)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    try:
        fail()
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    written = lines()
    assert [line["level"] for line in written] == ["critical", "critical", "warning"]
    assert [line["event"] for line in written[:2]] == ["thread.crashed", "process.crashed"]
    assert written[0]["thread"] == thread.name
    assert all("RuntimeError: …" in line["exception"] for line in written[:2])
    assert "\n" not in written[2]["event"]


def test_the_level_does_not_enable_debug_lines_of_libraries() -> None:
    """LOG_LEVEL does not enable libraries' debug lines, which contain tokens."""
    lines = logging_to(io.StringIO(), level="debug")
    StructuredLogger("holdfast.checkpoint").debug("pack.sent")
    logging.getLogger("botocore.auth").debug("x-amz-security-token: …")
    logging.getLogger("botocore").info("theirs")
    assert [line["event"] for line in lines()] == ["pack.sent", "theirs"]


def fail_with(error: Exception, logger: str, level: int, text: str) -> None:
    """Log *text* to *logger* with the traceback of *error*, as libraries do."""
    try:
        raise error
    except type(error):
        logging.getLogger(logger).log(level, text, exc_info=True)


@pytest.mark.parametrize("kind", ["json", "text"])
@pytest.mark.parametrize(
    ("error", "level"),
    [
        (HeaderParsingError([], "half a na"), logging.WARNING),
        (ConnectionResetError(104, "Connection reset by peer"), logging.ERROR),
        (ConnectTimeoutError(endpoint_url="http://x"), logging.ERROR),
        (ValueError("a warning is no defect"), logging.WARNING),
    ],
)
def test_a_network_error_in_a_library_is_one_line(kind: str, error: Exception, level: int) -> None:
    """The line has the library's message and the error; at LOG_LEVEL=debug the traceback remains."""
    stream = io.StringIO()
    logging_to(stream, kind=kind)
    fail_with(error, "urllib3.connection", level, "Failed to parse headers\n(url=http://x)")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "Failed to parse headers (url=http://x)" in text
    assert type(error).__name__ in text
    assert "Traceback" not in text
    logging_to(stream, kind=kind, level="debug")
    fail_with(error, "urllib3.connection", level, "Failed to parse headers")
    assert "Traceback" in stream.getvalue()


def test_a_defect_in_a_library_keeps_its_traceback() -> None:
    """A library's error that is not the network's keeps its traceback."""
    lines = logging_to(io.StringIO())
    fail_with(KeyError("x"), "uvicorn.error", logging.ERROR, "Exception in ASGI application\n")
    (line,) = lines()
    assert line["event"] == "Exception in ASGI application"
    assert "Traceback" in line["exception"]


def test_our_own_exceptions_keep_their_traceback() -> None:
    """`exception` reports a defect of Holdfast and keeps the traceback, even of a network error."""
    lines = logging_to(io.StringIO())
    try:
        socket.create_connection(("127.0.0.1", 0))
    except OSError:
        StructuredLogger("holdfast.worker").exception("observer.failed", observer="x")
    assert "Traceback" in lines()[0]["exception"]


def test_truncated_headers_are_one_line() -> None:
    """urllib3 warns with a traceback about truncated headers; the line has none."""
    lines = logging_to(io.StringIO())
    with socket.create_server(("127.0.0.1", 0)) as server, urllib3.PoolManager() as pool:

        def break_off() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nServer: x\r\nhalf a na")

        thread = threading.Thread(target=break_off)
        thread.start()
        pool.request("GET", f"http://127.0.0.1:{server.getsockname()[1]}", retries=False)
        thread.join()
    (line,) = lines()
    assert line["logger"].startswith("urllib3")
    assert line["event"].startswith("Failed to parse headers")
    assert "HeaderParsingError" in line["error"]
    assert "exception" not in line


@pytest.mark.parametrize(
    ("name", "value"), [("LOG_FORMAT", "xml"), ("LOG_LEVEL", "loud"), ("METRICS_PORT", "65536"), ("METRICS_PORT", "x")]
)
def test_an_invalid_setting_is_an_error(name: str, value: str) -> None:
    """An invalid setting is an error that lists the valid values."""
    with pytest.raises(ConfigError, match=rf"{name}='{value}' .* is no"):
        from_environ({name: value}, None)
