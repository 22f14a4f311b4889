"""S3 server for bulk data, in its own process: accepts and returns bytes as fast as Python can, and counts.

It serves puts, ranged gets, heads, listings and multipart uploads from memory, and checks nothing. With `--swallow` it
keeps only lengths; with `--round-trip` every response is delayed. `GET /__counts` returns the requests and bytes
received since the last call.
"""

import argparse
import json
import socket
import sys
import threading
import time
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

DATE = "Tue, 01 Jan 2030 00:00:00 GMT"
ETAG = '"00000000000000000000000000000000"'
PIECE = 1 << 20

Bodies = list[bytearray]


class Storage:
    """The stored objects, and the counters."""

    def __init__(self, *, swallow: bool, round_trip_s: float) -> None:
        self.round_trip_s = round_trip_s
        self.swallow = swallow
        self.objects: dict[str, tuple[int, Bodies]] = {}
        self.uploads: dict[str, dict[int, tuple[int, Bodies]]] = {}
        self.requests = 0
        self.received = 0
        self.lock = threading.Lock()

    def counts(self) -> bytes:
        """Return the requests and bytes received since the last call, as JSON."""
        with self.lock:
            counted = {"requests": self.requests, "received": self.received}
            self.requests = self.received = 0
        return json.dumps(counted).encode()


class Connection:
    """One connection, served in a thread."""

    def __init__(self, storage: Storage, sock: socket.socket) -> None:
        self._storage = storage
        self._sock = sock
        self._rest = b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def serve(self) -> None:
        """Answer requests until the client closes."""
        with self._sock:
            try:
                while self._answer():
                    pass
            except OSError:
                return

    def _answer(self) -> bool:
        while b"\r\n\r\n" not in self._rest:
            more = self._sock.recv(1 << 16)
            if not more:
                return False
            self._rest += more
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("expect"):
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        place = urlsplit(target)
        if place.path == "/__counts":
            self._respond(200, self._storage.counts())
            return True
        size, body = self._receive(int(headers.get("content-length", 0)))
        with self._storage.lock:
            self._storage.requests += 1
            self._storage.received += size
        time.sleep(self._storage.round_trip_s)
        self._handle(method, unquote(place.path), parse_qs(place.query, keep_blank_values=True), headers, (size, body))
        return True

    def _receive(self, length: int) -> tuple[int, Bodies]:
        body = bytearray(min(length, PIECE) if self._storage.swallow else length)
        view = memoryview(body)
        taken = min(len(self._rest), length)
        view[: min(taken, len(view))] = self._rest[: min(taken, len(view))]
        self._rest = self._rest[taken:]
        while taken < length:
            into = view[: min(len(view), length - taken)] if self._storage.swallow else view[taken:]
            count = self._sock.recv_into(into)
            if not count:
                raise OSError("the connection broke off")
            taken += count
        return length, [] if self._storage.swallow else [body]

    def _handle(
        self, method: str, path: str, query: dict[str, list[str]], headers: dict[str, str], body: tuple[int, Bodies]
    ) -> None:
        storage = self._storage
        if method == "PUT" and "partNumber" in query:
            storage.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
            self._respond(200)
        elif method == "PUT":
            storage.objects[path] = body
            self._respond(200)
        elif method == "POST" and "uploads" in query:
            upload = f"u{len(storage.uploads)}"
            storage.uploads[upload] = {}
            self._respond(200, _xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>"))
        elif method == "POST" and "uploadId" in query:
            parts = [part for _, part in sorted(storage.uploads.pop(query["uploadId"][0]).items())]
            storage.objects[path] = sum(size for size, _ in parts), [piece for _, pieces in parts for piece in pieces]
            self._respond(200, _xml("CompleteMultipartUploadResult", f"<ETag>{ETAG}</ETag>"))
        elif method == "POST":
            self._respond(200, _xml("DeleteResult", ""))
        elif "list-type" in query or path.count("/") == 1:
            self._list(path, query)
        elif path not in storage.objects:
            self._respond(404, _xml("Error", "<Code>NoSuchKey</Code>"))
        else:
            self._send_object(method, *storage.objects[path], headers.get("range"))

    def _list(self, path: str, query: dict[str, list[str]]) -> None:
        bucket = path.strip("/").partition("/")[0]
        prefix = f"/{bucket}/{query.get('prefix', [''])[0]}"
        rows = "".join(
            f"<Contents><Key>{escape(key.removeprefix(f'/{bucket}/'))}</Key><Size>{size}</Size>"
            f"<ETag>{ETAG}</ETag><LastModified>2030-01-01T00:00:00.000Z</LastModified></Contents>"
            for key, (size, _) in sorted(self._storage.objects.items())
            if key.startswith(prefix)
        )
        self._respond(200, _xml("ListBucketResult", f"<IsTruncated>false</IsTruncated>{rows}"))

    def _send_object(self, method: str, size: int, bodies: Bodies, wanted: str | None) -> None:
        begin, end, status, more = 0, size, 200, ""
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end, status = int(first), min(int(last) + 1 if last else size, size), 206
            more = f"Content-Range: bytes {begin}-{end - 1}/{size}\r\n"
        self._head(status, end - begin, more)
        at = 0
        for body in bodies if method == "GET" else ():
            if at < end and begin < at + len(body):
                self._sock.sendall(memoryview(body)[max(begin - at, 0) : end - at])
            at += len(body)

    def _respond(self, status: int, body: bytes = b"") -> None:
        self._head(status, len(body), "")
        self._sock.sendall(body)

    def _head(self, status: int, length: int, more: str) -> None:
        head = f"HTTP/1.1 {status} OK\r\nContent-Length: {length}\r\nETag: {ETAG}\r\nDate: {DATE}\r\n{more}"
        head += f"Last-Modified: {DATE}\r\nAccept-Ranges: bytes\r\n\r\n"
        self._sock.sendall(head.encode())


def _xml(name: str, inside: str) -> bytes:
    return f"<?xml version='1.0'?><{name}>{inside}</{name}>".encode()


def main() -> None:
    """Serve until stdin is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swallow", action="store_true")
    parser.add_argument("--round-trip", type=float, default=0.0, metavar="SECONDS")
    args = parser.parse_args()
    storage = Storage(swallow=args.swallow, round_trip_s=args.round_trip)
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listening.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            sock, _ = listening.accept()
            threading.Thread(target=Connection(storage, sock).serve, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
