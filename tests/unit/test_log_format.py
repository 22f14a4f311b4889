"""Log lines: whose they are is on each, secrets on none."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.cluster import Cluster

from adapters.redaction import Redactor
from adapters.telemetry.log_format import AttemptContextProcessor, configure
from client.config.secret_redaction import mask_of
from client.config.settings import from_environ
from lifecycle.errors import ConfigError

SECRET = 'wJalr/XUtn+FEMI "quoted" K7MDENG\'é'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Handlers and hooks belong to the whole process."""
    root, mine = logging.getLogger(), logging.getLogger("holdfast")
    before = (root.handlers[:], root.level, mine.level, sys.excepthook, threading.excepthook, warnings.showwarning)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    mine.setLevel(before[2])
    sys.excepthook, threading.excepthook, warnings.showwarning = before[3:]


def logging_to(
    stream: io.StringIO, where: AttemptContextProcessor | None = None, **more: Any
) -> Callable[[], list[dict[str, Any]]]:
    """Log there; gives the lines so far."""
    given = {"kind": "auto", "level": "info", "mask": Redactor([SECRET]), **more}
    configure(where=where or AttemptContextProcessor("node1"), stream=stream, **given)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_says_whose_it_is(tmp_path: Path) -> None:
    """The node on all; job, epoch and state from the lease to the end, and on the last line about the job too."""
    cluster, where = Cluster(tmp_path), AttemptContextProcessor("node1")
    lines = logging_to(io.StringIO(), where)
    cluster.submit("a")
    cluster.worker(observers=[where]).run()
    told = lines()
    assert {line["node"] for line in told} == {"node1"}
    saved = [line for line in told if line["event"] == "checkpoint"]
    assert [(line["job"], line["epoch"], line["seq"]) for line in saved] == [("a", 1, number) for number in range(1, 5)]
    last = next(line for line in told if line["event"] == "attempt.ended")
    assert (last["job"], last["epoch"], last["state"], last["outcome"]) == ("a", 1, "completed", "completed")
    assert "job" not in told[-1], "it says that the worker was idle"
    assert told[-1]["event"] == "worker.idle_exit"
    assert [line for line in told if "job" not in line] == told[-1:]


def test_another_job_is_not_taken_for_the_last_one(tmp_path: Path) -> None:
    """A message that is handed back between attempts says its own job, without an epoch that is not its."""
    cluster, where = Cluster(tmp_path), AttemptContextProcessor("node1")
    lines = logging_to(io.StringIO(), where)
    cluster.submit("a")
    cluster.worker(observers=[where], max_jobs=1).run()
    logging.getLogger("holdfast.worker").info("b: handed back", extra={"job": "b"})
    line = lines()[-1]
    assert line["job"] == "b"
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
def test_json_for_machines_text_for_people(kind: str, stream: io.StringIO, *, is_json: bool) -> None:
    """By where it goes, unless it is said; colours on a terminal alone."""
    logging_to(stream, kind=kind)
    logging.getLogger("holdfast.worker").info("node1 works: %s", "series-sum")
    text = stream.getvalue()
    assert text.startswith("{") == is_json
    assert "node1 works: series-sum" in text
    assert ("\x1b[" in text) == (stream.isatty() and not is_json)
    assert text.count("\n") == 1


@pytest.mark.parametrize("kind", ["json", "text"])
def test_no_secret_in_any_form(kind: str) -> None:
    """In a message, a field, a traceback, its variables; quoted, escaped, or in an address."""
    stream = io.StringIO()
    logging_to(stream, kind=kind)
    log = logging.getLogger("holdfast.worker")
    log.error("the key %s is refused", SECRET)
    log.error("headers %r", {"x-amz-security-token": f"{SECRET}\n"})
    log.error("http://x/?token=%s", quote(SECRET, safe=""), extra={"facts": {"error": repr(SECRET.encode())}})

    def put_header(held_here: str) -> None:
        raise ValueError(f"Invalid header value {held_here!r}")

    try:
        put_header(SECRET)
    except ValueError:
        log.exception("trouble")
    text = stream.getvalue()
    assert "Invalid header value" in text
    assert "Traceback" in text
    for part in ("wJalr", "FEMI", "K7MDENG"):
        assert part not in text, part
    assert text.count("…") == 5


def test_a_short_value_is_no_secret_and_all_others_are() -> None:
    """Masking one letter would eat the text; the longer of two that begin alike is taken out whole."""
    assert Redactor(["a", "abc"])("abcab") == "abcab"
    assert Redactor(["secret", "secret-and-more"])("secret-and-more, secret") == "…, …"
    assert Redactor([])("text") == "text"


def test_every_secret_setting_is_masked() -> None:
    """And nothing else."""
    cloud = {name: f"value-of-{name}" for name in ("AWS_ID", "AWS_KEY", "CLOUDFLARE_ID", "CLOUDFLARE_KEY", "AWS_TOKEN")}
    places = {
        "CLOUDFLARE_URL": "https://x.example",
        "BUCKET": "b",
        "QUEUE_URL": "https://sqs.us-east-2.x.com/1/q",
    }
    mask = mask_of(from_environ({**cloud, **places}, None))
    assert mask("value-of-AWS_KEY value-of-CLOUDFLARE_KEY value-of-AWS_TOKEN value-of-AWS_ID") == (
        "… … … value-of-AWS_ID"
    )


def test_what_nobody_caught_is_a_line_too() -> None:
    """From any thread, and warnings; in the same form, without secrets."""
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
    told = lines()
    assert [line["level"] for line in told] == ["critical", "critical", "warning"]
    assert all("RuntimeError: …" in line["exception"] for line in told[:2])


def test_the_level_is_for_our_own_lines() -> None:
    """A cloud client's DEBUG shows tokens: it is not to be had."""
    lines = logging_to(io.StringIO(), level="debug")
    logging.getLogger("holdfast.checkpoint").debug("ours")
    logging.getLogger("botocore.auth").debug("x-amz-security-token: …")
    logging.getLogger("botocore").info("theirs")
    assert [line["event"] for line in lines()] == ["ours", "theirs"]


@pytest.mark.parametrize(
    ("name", "value"), [("LOG_FORMAT", "xml"), ("LOG_LEVEL", "loud"), ("METRICS_PORT", "65536"), ("METRICS_PORT", "x")]
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    """With what it could be."""
    with pytest.raises(ConfigError, match=rf"{name}='{value}' .* is no"):
        from_environ({name: value}, None)
