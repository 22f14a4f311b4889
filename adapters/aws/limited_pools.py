"""Total deadlines for the calls of a boto3 client, whose own time-outs hold for each read alone."""

from typing import Any

from adapters.deadlines import WATCHDOG, TimeLimit


def limit_calls(client: Any, limit: TimeLimit) -> None:
    """Give every request of *client* a total deadline.

    botocore has no setting for that. Its pools are replaced by subclasses, for proxies too.
    """
    pools = client._endpoint.http_session._pool_classes_by_scheme  # noqa: SLF001 - botocore has no public way
    for scheme, pool in pools.items():
        connection = type("LimitedConnection", (_LimitedConnection, pool.ConnectionCls), {"limit": limit})
        pools[scheme] = type("LimitedPool", (_LimitedPool, pool), {"ConnectionCls": connection})


class _LimitedConnection:
    """A connection of urllib3 whose requests have a deadline."""

    limit: TimeLimit
    sock: Any

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, *args: Any, **kwargs: Any) -> Any:
        WATCHDOG.watch(self, self.limit.for_bytes(_length(headers)))
        parent: Any = super()
        return parent.request(method, url, body, headers, *args, **kwargs)

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        WATCHDOG.extend(self, 0.0)
        parent: Any = super()
        response = parent.getresponse(*args, **kwargs)
        try:
            WATCHDOG.extend(self, self.limit.more_for(_length(response.headers)))
        except TimeoutError:
            response.close()
            raise
        return response


class _LimitedPool:
    """A pool of them. A connection comes back to it when the whole answer was read."""

    def _put_conn(self, conn: Any) -> None:
        WATCHDOG.forget(conn)
        parent: Any = super()
        parent._put_conn(conn)  # noqa: SLF001 - the pool's own


def _length(headers: Any) -> int:
    """Return the length of a body that is announced in *headers*; 0 if it is not."""
    try:
        return int((headers or {}).get("Content-Length") or 0)
    except ValueError:
        return 0
