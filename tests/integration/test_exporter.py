"""The exporter's readings over the wire."""

from collections.abc import Callable
from typing import Any

from adapters.aws.queue import SqsQueue
from client.config.composition import open_environment
from client.config.settings import from_environ
from client.operations.exporter_sources import dead_letter_reader
from lifecycle.ports.queue import Message

KEY_ID, SECRET = "AKIATESTTESTTESTTEST", "not-a-secret"


def reader(queue: SqsQueue, moto_url: str) -> Callable[[], Any]:
    given = {
        "QUEUE_URL": queue._url,
        "AWS_ID": KEY_ID,
        "AWS_KEY": SECRET,
        "CLOUDFLARE_URL": moto_url,
        "CLOUDFLARE_ID": KEY_ID,
        "CLOUDFLARE_KEY": SECRET,
        "BUCKET": "b",
    }
    return dead_letter_reader(open_environment(from_environ(given, None)))


def test_dead_letters_are_counted(
    wire_queue_with_dead_letters: Callable[..., tuple[SqsQueue, SqsQueue]], moto_url: str
) -> None:
    """Those in the dead-letter queue that the queue names, and not its own."""
    queue, dead = wire_queue_with_dead_letters()
    read = reader(queue, moto_url)
    assert read() == {"holdfast_dead_letters": [((), 0)]}
    queue.send([Message("{}", "a", "1")])
    dead.send([Message("{}", "a", "2"), Message("{}", "b", "3")])
    assert read() == {"holdfast_dead_letters": [((), 2)]}


def test_without_a_dead_letter_queue_there_is_no_number(wire_queue: Callable[..., SqsQueue], moto_url: str) -> None:
    """Zero would say that one is watched."""
    assert reader(wire_queue(), moto_url)() == {}
