"""SaladNode: a SaladCloud container instance, with its metadata service.

https://docs.salad.com/container-engine/reference/imds/

- The address is http://169.254.169.254 and must be reached without a proxy; each request has the header
  `Metadata: true`.
- `POST /v1/reallocate` with `{"reason": …}` replaces the machine.
- `PUT /v1/deletion-cost` with `{"deletion_cost": n}` ranks instances for a scale-in: the lowest goes first.
"""

import json
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError

from attrs import Factory, field, frozen

from adapters.retrier import METADATA, Retrier, retried
from lifecycle.errors import HoldfastError, PermanentError, RetryableError
from lifecycle.ports.node import Node
from lifecycle.structured_log import StructuredLogger

METADATA_SERVICE: Final = "http://169.254.169.254"
TIMEOUT_S: Final = 5.0
MAX_REASON_CHARS: Final = 1000
REFUSED_FOR_NOW: Final = frozenset({408, 429})
SERVER_ERROR: Final = 500

log = StructuredLogger("holdfast.node")


@frozen
class SaladNode:
    """A SaladCloud container instance.

    Attributes:
        name: The machine's id, the process id and a random suffix.
        kind: The operator's name for this type of machine; empty if not set.
        metadata_service: Address of the metadata service.
        retry: Retries each call.
        machine: The machine's id.
    """

    name: str
    kind: str = ""
    metadata_service: str = METADATA_SERVICE
    retry: Retrier = field(kw_only=True)
    machine: str = field(default=Factory(lambda self: self.name, takes_self=True), kw_only=True)

    def reallocate(self, reason: str) -> None:
        """See `Node.reallocate`."""
        self._call("POST", "/v1/reallocate", {"reason": reason[:MAX_REASON_CHARS] or "unfit"})

    def set_deletion_cost(self, cost: int) -> None:
        """See `Node.set_deletion_cost`."""
        self._call("PUT", "/v1/deletion-cost", {"deletion_cost": cost})

    def _call(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        """Make a call; a failure is only logged."""
        try:
            self._send(method, path, body)
        except HoldfastError as error:
            log.warning("metadata_call.failed", call=f"{method} {path}", error=str(error))

    @retried(METADATA)
    def _send(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        request = urllib.request.Request(  # noqa: S310 - a fixed http address
            f"{self.metadata_service}{path}",
            data=json.dumps(body).encode(),
            method=method,
            headers={"Metadata": "true", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_S):
                pass
        except HTTPError as error:
            error.close()  # the error is the response, and holds its socket open
            kind = RetryableError if error.code in REFUSED_FOR_NOW or error.code >= SERVER_ERROR else PermanentError
            raise kind(str(error)) from error
        except (OSError, ValueError, HTTPException) as error:
            raise RetryableError(str(error)) from error


if TYPE_CHECKING:

    def _conforms(node: SaladNode) -> Node:
        return node
