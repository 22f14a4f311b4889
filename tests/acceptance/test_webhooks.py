"""Webhooks from real workers, received over a socket and verified as docs/webhooks.md describes."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.process_cluster import ProcessCluster

from lifecycle.states import State

pytestmark = pytest.mark.acceptance

KEY = "a-key-that-is-long-enough"
PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"


class Receiver:
    """A receiver of webhooks.

    Args:
        answers: False for a receiver that never responds.

    Attributes:
        url: The receiver's URL.
        told: Headers and body of each delivery that was answered.
    """

    def __init__(self, *, answers: bool = True) -> None:
        self._answers = answers
        self.told: list[tuple[Mapping[str, str], bytes]] = []
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?room=7"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def states(self) -> list[str]:
        return [json.loads(body)["state"] for _, body in self.told]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not receiver._answers:
                    receiver._closing.wait()
                    return
                receiver.told.append((dict(self.headers), body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                """Log nothing."""

        return Handler


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def hung_receiver() -> Iterator[Receiver]:
    made = Receiver(answers=False)
    yield made
    made.close()


def test_each_change_of_a_job_is_delivered_once(files: ProcessCluster, receiver: Receiver) -> None:
    """Each change is delivered once and in order; the code in the docs accepts these deliveries, and no altered one."""
    files.submit("a", "1\n300\n")
    files.worker("--idle-exit", "1s", WEBHOOK_URL=receiver.url, WEBHOOK_KEY=KEY).wait(timeout=60)
    assert receiver.states() == ["received", "input_loaded", "running", "completed"]
    [snippet] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet, names)  # noqa: S102 - that it works is the point
    for headers, body in receiver.told:
        assert names["is_genuine"](KEY, headers, body)
        assert not names["is_genuine"](KEY, headers, body + b" ")
        assert json.loads(body)["id"] == headers["webhook-id"]
    assert not files.record("a").outbox.notices


def test_notices_of_a_dead_worker_are_delivered_by_reconcile(
    files: ProcessCluster, hung_receiver: Receiver, receiver: Receiver
) -> None:
    """Notices recorded by a worker that was killed during delivery are delivered once by reconcile.

    Reconcile uses another receiver, since the dead worker's request may still be unread in a socket.
    """
    files.submit("a", "1\n300\n")
    worker = files.worker(WEBHOOK_URL=hung_receiver.url, WEBHOOK_KEY=KEY)
    files.until("a", lambda record: record.state is State.COMPLETED and record.is_settled)
    worker.kill()
    worker.wait()
    assert hung_receiver.told == []
    done = files.holdfast("reconcile", "--older", "0", WEBHOOK_URL=receiver.url, WEBHOOK_KEY=KEY)
    assert done.returncode == 0, done.stderr
    assert receiver.states() == ["received", "input_loaded", "running", "completed"]
    assert not files.record("a").outbox.notices
    again = files.holdfast("reconcile", "--older", "0", WEBHOOK_URL=receiver.url, WEBHOOK_KEY=KEY)
    assert (again.returncode, len(receiver.told)) == (0, 4)
