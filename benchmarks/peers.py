"""Run one peer in a process of its own, and print JSON as saver.py does.

Usage: peers.py URL BUCKET WHAT DIR [DIR], with WHAT one of boto3-up, boto3-down, obstore-16, obstore-256, awscrt, raw.
Over HTTPS, each peer trusts the file that AWS_CA_BUNDLE and SSL_CERT_FILE name.
"""
# The peers are installed by `make bench` alone.
# pyright: reportMissingImports=false

import asyncio
import json
import mmap
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KEY = "x"
REGION = "auto"
PACK = 16 << 20
AT_ONCE = 4


Took = dict[str, float]


def timed(at_once: int, work: Callable[[ThreadPoolExecutor], object]) -> Took:
    """Return the elapsed and CPU seconds of *work* with a pool of *at_once* threads."""
    began, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(at_once) as pool:
        work(pool)
    return {"s": time.perf_counter() - began, "cpu_s": time.process_time() - used}


def files_of(folder: Path) -> list[Path]:
    """Return the files to upload."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def boto3_client(url: str) -> Any:
    """Return a client with default settings."""
    import boto3  # noqa: PLC0415 - a peer's

    return boto3.client("s3", endpoint_url=url, region_name=REGION, aws_access_key_id=KEY, aws_secret_access_key=KEY)


def boto3_up(url: str, bucket: str, folders: Sequence[Path]) -> Took:
    """Run `upload_file` for each file, ten at a time."""
    client, paths = boto3_client(url), files_of(folders[0])
    return timed(
        10, lambda pool: list(pool.map(lambda path: client.upload_file(str(path), bucket, f"b/{path.name}"), paths))
    )


def boto3_down(url: str, bucket: str, folders: Sequence[Path]) -> Took:
    """Run `download_file` for each file."""
    client, paths = boto3_client(url), files_of(folders[0])
    folders[1].mkdir(parents=True, exist_ok=True)

    def get(path: Path) -> None:
        client.download_file(bucket, f"b/{path.name}", str(folders[1] / path.name))

    return timed(1, lambda pool: list(pool.map(get, paths)))


def obstore_up(url: str, bucket: str, folders: Sequence[Path], *, at_once: int) -> Took:
    """Upload each file with an unsigned payload, *at_once* at a time."""
    import obstore  # noqa: PLC0415 - a peer's
    from obstore.store import S3Store  # noqa: PLC0415

    target = S3Store(
        bucket,
        endpoint=url,
        region=REGION,
        access_key_id=KEY,
        secret_access_key=KEY,
        virtual_hosted_style_request=False,
        unsigned_payload=True,
        client_options={"allow_http": True, "allow_invalid_certificates": True},
    )
    paths = files_of(folders[0])

    async def put_all() -> None:
        free = asyncio.Semaphore(at_once)

        async def put(path: Path) -> None:
            async with free:
                await obstore.put_async(target, f"o/{path.name}", path)

        await asyncio.gather(*map(put, paths))

    return timed(1, lambda _: asyncio.run(put_all()))


def awscrt_up(url: str, bucket: str, folders: Sequence[Path]) -> Took:
    """Upload each file; the client chooses the concurrency."""
    from awscrt import auth, http, io, s3  # noqa: PLC0415 - a peer's

    place = urlsplit(url)
    group = io.EventLoopGroup()
    more: dict[str, Any] = {"tls_mode": s3.S3RequestTlsMode.DISABLED}
    if place.scheme == "https":
        options = io.TlsContextOptions()
        options.override_default_trust_store_from_path(ca_filepath=os.environ["SSL_CERT_FILE"])
        tls = io.ClientTlsContext(options).new_connection_options()
        more = {"tls_mode": s3.S3RequestTlsMode.ENABLED, "tls_connection_options": tls}
    client = s3.S3Client(
        bootstrap=io.ClientBootstrap(group, io.DefaultHostResolver(group)),
        region="us-east-1",
        credential_provider=auth.AwsCredentialsProvider.new_static(KEY, KEY),
        **more,
    )

    def put(path: Path) -> Any:
        headers = [("host", place.netloc), ("content-length", str(path.stat().st_size))]
        request = http.HttpRequest("PUT", f"/{bucket}/c/{path.name}", http.HttpHeaders(headers))
        return client.make_request(
            type=s3.S3RequestType.PUT_OBJECT, request=request, send_filepath=str(path)
        ).finished_future

    paths = files_of(folders[0])
    return timed(1, lambda _: [done.result() for done in [put(path) for path in paths]])


def raw_up(url: str, bucket: str, folders: Sequence[Path]) -> Took:
    """Send as many bytes from one buffer, in packs over few connections, as a bound for all clients."""
    left = sum(path.stat().st_size for path in files_of(folders[0]))
    packs = [min(PACK, left - start) for start in range(0, left, PACK)]
    body = memoryview(mmap.mmap(-1, PACK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    body[:] = os.urandom(PACK)
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    here = threading.local()

    def put(numbered: tuple[int, int]) -> None:
        number, size = numbered
        if not hasattr(here, "sock"):
            place = urlsplit(url)
            plain = socket.create_connection((place.hostname, place.port))
            here.sock = context.wrap_socket(plain, server_hostname=place.hostname)
        here.sock.sendall(f"PUT /{bucket}/r/{number} HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode())
        here.sock.sendall(body[:size])
        if not here.sock.recv(1 << 16).startswith(b"HTTP/1.1 200"):
            raise OSError("refused")

    return timed(AT_ONCE, lambda pool: list(pool.map(put, enumerate(packs))))


WHAT: dict[str, Callable[[str, str, Sequence[Path]], Took]] = {
    "boto3-up": boto3_up,
    "boto3-down": boto3_down,
    "obstore-16": partial(obstore_up, at_once=16),
    "obstore-256": partial(obstore_up, at_once=256),
    "awscrt": awscrt_up,
    "raw": raw_up,
}


if __name__ == "__main__":
    url_, bucket_, what, *paths_ = sys.argv[1:]
    print(json.dumps(WHAT[what](url_, bucket_, [Path(path) for path in paths_])))
