"""Stub server for the parts of SQS and S3 that Holdfast uses, in its own process, with an adjustable round trip.

It answers from memory, each request but listings in O(1), so that the client is what is measured. Conditional PUTs,
ETags and visibility timeouts behave as in the services; signatures are not checked. It counts calls by kind: `GET
/__counts`.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import time
import uuid
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE: Final = 1000  # keys of a listing
FAMILIES: Final = {"/.holdfast/records/": "record", "/checkpoints/": "manifest", "/packs/": "pack", "/log/": "log"}

Headers = dict[str, str]
Answer = tuple[int, Headers, bytes]


class Queue:
    """A queue: available messages, messages in flight, and waiting receivers."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._available: deque[str] = deque()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._receives: Counter[str] = Counter()
        self._waiting: deque[asyncio.Future[None]] = deque()

    def send(self, body: str) -> Headers:
        """Add a message."""
        message = str(uuid.uuid4())
        self._bodies[message] = body
        self._show(message)
        return {"MessageId": message, "MD5OfMessageBody": _md5(body.encode())}

    async def receive(self, count: int, hidden_s: float, wait_s: float) -> list[dict[str, Any]]:
        """Return up to *count* messages, after waiting for the first."""
        if not self._available and wait_s:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await asyncio.wait([waiter], timeout=wait_s)
            waiter.cancel()
        given: list[dict[str, Any]] = []
        while self._available and len(given) < count:
            message = self._available.popleft()
            if message in self._bodies and message not in self._timers:
                self._receives[message] += 1
                self.hide(message, hidden_s)
                given.append(self._delivery(message))
        return given

    def hide(self, message: str, hidden_s: float) -> None:
        """Show *message* again after *hidden_s*."""
        if message not in self._bodies:
            return
        if timer := self._timers.pop(message, None):
            timer.cancel()
        self._timers[message] = asyncio.get_running_loop().call_later(hidden_s, self._show, message)

    def delete(self, message: str) -> None:
        """Delete *message*."""
        self._bodies.pop(message, None)
        if timer := self._timers.pop(message, None):
            timer.cancel()

    def depth(self) -> dict[str, str]:
        """Return the numbers of messages."""
        return {
            "ApproximateNumberOfMessages": str(len(self._bodies) - len(self._timers)),
            "ApproximateNumberOfMessagesNotVisible": str(len(self._timers)),
            "ApproximateNumberOfMessagesDelayed": "0",
        }

    def _show(self, message: str) -> None:
        self._timers.pop(message, None)
        self._available.append(message)
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _delivery(self, message: str) -> dict[str, Any]:
        return {
            "MessageId": message,
            "ReceiptHandle": message,
            "Body": self._bodies[message],
            "MD5OfBody": _md5(self._bodies[message].encode()),
            "Attributes": {"ApproximateReceiveCount": str(self._receives[message])},
        }


class Sqs:
    """The SQS JSON protocol. Every queue URL names a queue."""

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}

    async def answer(self, action: str, body: bytes) -> Answer:
        """Perform *action* and return the response."""
        asked = json.loads(body)
        queue = self._queues.setdefault(asked["QueueUrl"], Queue())
        result = await self._do(action, queue, asked)
        if result is None:
            problem = {
                "__type": "com.amazonaws.sqs#UnsupportedOperation",
                "message": f"the stub does not support {action}",
            }
            return 400, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(problem).encode()
        return 200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(result).encode()

    async def _do(self, action: str, queue: Queue, asked: dict[str, Any]) -> dict[str, Any] | None:
        result: dict[str, Any] | None = {}
        match action:
            case "SendMessage":
                result = dict(queue.send(asked["MessageBody"]))
            case "SendMessageBatch":
                sent = [{"Id": entry["Id"], **queue.send(entry["MessageBody"])} for entry in asked["Entries"]]
                result = {"Successful": sent, "Failed": []}
            case "ReceiveMessage":
                hidden_s, wait_s = asked.get("VisibilityTimeout", 30), asked.get("WaitTimeSeconds", 0)
                given = await queue.receive(asked.get("MaxNumberOfMessages", 1), hidden_s, wait_s)
                result = {"Messages": given}
            case "DeleteMessage":
                queue.delete(asked["ReceiptHandle"])
            case "ChangeMessageVisibility":
                queue.hide(asked["ReceiptHandle"], asked["VisibilityTimeout"])
            case "GetQueueAttributes":
                result = {"Attributes": queue.depth()}
            case _:
                result = None
        return result


class S3:
    """Buckets in one dictionary of paths. Every bucket exists."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, str, float]] = {}
        self._keys: list[str] = []  # sorted at a listing; empty after a key is added or removed

    def answer(self, method: str, path: str, query: dict[str, list[str]], headers: Headers, body: bytes) -> Answer:
        """Return the response to a request."""
        if method == "PUT":
            return self._put(path, headers, body)
        if method == "DELETE":
            self._objects.pop(path, None)
            self._keys = []
            return 204, {}, b""
        if method == "POST" and "delete" in query:
            return self._delete_many(path, body)
        if method == "GET" and "list-type" in query:
            return self._list(path.strip("/"), query)
        if method in {"GET", "HEAD"}:
            return self._get(path, headers)
        return _error(501, "NotImplemented")

    def _put(self, path: str, headers: Headers, body: bytes) -> Answer:
        stored = self._objects.get(path)
        if source := headers.get("x-amz-copy-source"):
            found = self._objects.get("/" + unquote(source).lstrip("/"))
            if found is None:
                return _error(404, "NoSuchKey")
            body = found[0]
        if "if-none-match" in headers and stored:
            return _error(412, "PreconditionFailed")
        if "if-match" in headers and not stored:
            return _error(404, "NoSuchKey")
        if stored and headers.get("if-match", stored[1]) != stored[1]:
            return _error(412, "PreconditionFailed")
        etag = f'"{_md5(body)}"'
        if not stored:
            self._keys = []
        self._objects[path] = body, etag, time.time()
        if source:
            return 200, {}, f"<CopyObjectResult><ETag>{escape(etag)}</ETag></CopyObjectResult>".encode()
        return 200, {"ETag": etag}, b""

    def _get(self, path: str, headers: Headers) -> Answer:
        found = self._objects.get(path)
        if found is None:
            return _error(404, "NoSuchKey")
        body, etag, written = found
        response_headers = {"ETag": etag, "Last-Modified": formatdate(written, usegmt=True)}
        if "range" not in headers:
            return 200, response_headers, body
        first, _, last = headers["range"].removeprefix("bytes=").partition("-")
        if int(first) >= len(body):
            return _error(416, "InvalidRange")
        piece = body[int(first) : int(last) + 1 if last else None]
        content_range = f"bytes {first}-{int(first) + len(piece) - 1}/{len(body)}"
        return 206, {**response_headers, "Content-Range": content_range}, piece

    def _delete_many(self, bucket: str, body: bytes) -> Answer:
        for piece in body.decode().split("<Key>")[1:]:
            self._objects.pop(f"{bucket.rstrip('/')}/{piece.partition('</Key>')[0]}", None)
        self._keys = []
        return 200, {}, b"<DeleteResult/>"

    def _list(self, bucket: str, query: dict[str, list[str]]) -> Answer:
        start = f"/{bucket}/"
        prefix = start + query.get("prefix", [""])[0]
        after = query.get("continuation-token", [""])[0]
        self._keys = self._keys or sorted(self._objects)
        first = bisect_right(self._keys, after) if after else bisect_left(self._keys, prefix)
        page = [key for key in self._keys[first : first + PAGE + 1] if key.startswith(prefix)]
        more = len(page) > PAGE
        page = page[:PAGE]
        rows = "".join(self._row(key, key.removeprefix(start)) for key in page)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        head = f"<Name>{bucket}</Name><KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
        return 200, {}, f"<ListBucketResult>{head}{token}{rows}</ListBucketResult>".encode()

    def _row(self, key: str, name: str) -> str:
        body, etag, moment = self._objects[key]
        written = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(moment))
        return (
            f"<Contents><Key>{escape(name)}</Key><LastModified>{written}</LastModified>"
            f"<ETag>{escape(etag)}</ETag><Size>{len(body)}</Size></Contents>"
        )


class Connection(asyncio.Protocol):
    """One connection; its requests are answered in order, each after the round trip."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._buffer = bytearray()
        self._transport: asyncio.Transport
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells the type checker
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._buffer += data
        if not self._busy:
            self._take()

    def _take(self) -> None:
        """Start on the first complete request in the buffer."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        line, *rest = self._buffer[:end].decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
        length = int(headers.get("content-length", 0))
        if headers.get("expect") and len(self._buffer) == end + 4:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if len(self._buffer) < end + 4 + length:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        self._busy = True
        task = asyncio.get_running_loop().create_task(self._server.answer(method, target, headers, body))
        task.add_done_callback(lambda done: self._reply(method, done.result()))

    def _reply(self, method: str, answer: Answer) -> None:
        status, headers, body = answer
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Date: {formatdate(usegmt=True)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        if not self._transport.is_closing():
            self._transport.write("\r\n".join(lines).encode() + (b"" if method == "HEAD" else body))
        self._busy = False
        self._take()


class Server:
    """Both services behind one port, with the round trip and the counts."""

    def __init__(self, round_trip_s: float) -> None:
        self._round_trip_s = round_trip_s
        self._sqs = Sqs()
        self._s3 = S3()
        self._counts: Counter[str] = Counter()

    async def answer(self, method: str, target: str, headers: Headers, body: bytes) -> Answer:
        """Return the response to a request, a round trip later."""
        parts = urlsplit(target)
        if parts.path == "/__counts":
            return 200, {"Content-Type": "application/json"}, json.dumps(self._counts).encode()
        if self._round_trip_s:
            await asyncio.sleep(self._round_trip_s)
        if "x-amz-target" in headers:
            action = headers["x-amz-target"].partition(".")[2]
            self._counts[f"sqs {action}"] += 1
            return await self._sqs.answer(action, body)
        path, query = unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)
        self._counts[f"s3 {'LIST' if 'list-type' in query else method} {_family(path)}"] += 1
        return self._s3.answer(method, path, query, headers, body)


def _family(path: str) -> str:
    return next((name for part, name in FAMILIES.items() if part in path), "other")


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _error(status: int, code: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>from the stub</Message></Error>"
    return status, {"Content-Type": "application/xml"}, body.encode()


async def serve(round_trip_s: float, announce: Callable[[int], None]) -> None:
    """Serve on a free port of the loopback address until stdin is closed."""
    loop = asyncio.get_running_loop()
    server = Server(round_trip_s)
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=512)
    announce(listening.sockets[0].getsockname()[1])
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve, after printing the port."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round-trip", type=float, default=0.04, metavar="SECONDS")
    asyncio.run(serve(parser.parse_args().round_trip, lambda port: print(port, flush=True)))


if __name__ == "__main__":
    main()
