"""The machine under us: any host, or a SaladCloud container with its metadata service.

SaladCloud's IMDS (docs.salad.com, imds): `http://169.254.169.254`, header `Metadata: true`; POST /v1/reallocate
`{"reason": …}`; PUT /v1/deletion-cost `{"deletion_cost": n}`. It must be reached without a proxy.
"""

import json
import logging
import os
import secrets
import socket
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError

from attrs import frozen

from lifecycle.ports.node import Node

IMDS: Final = "http://169.254.169.254"
TIMEOUT_S: Final = 5.0
REASON_CHARACTERS: Final = 1000

log = logging.getLogger("holdfast.node")


@frozen
class LocalNode:
    """A host that nobody replaces."""

    name: str
    kind: str = ""

    def reallocate(self, reason: str) -> None:
        """See `lifecycle.ports.node.Node`; here it only says so."""
        log.error("%s is unfit: %s", self.name, reason)

    def set_deletion_cost(self, cost: int) -> None:
        """See `lifecycle.ports.node.Node`; here nobody asks."""


@frozen
class SaladNode:
    """A SaladCloud container instance.

    Attributes:
        name: The machine's id and this process.
        kind: What kind of machine it is.
        imds: Where the metadata service is.
    """

    name: str
    kind: str = ""
    imds: str = IMDS

    def reallocate(self, reason: str) -> None:
        """See `lifecycle.ports.node.Node`."""
        self._call("POST", "/v1/reallocate", {"reason": reason[:REASON_CHARACTERS] or "unfit"})

    def set_deletion_cost(self, cost: int) -> None:
        """See `lifecycle.ports.node.Node`."""
        self._call("PUT", "/v1/deletion-cost", {"deletion_cost": cost})

    def _call(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        request = urllib.request.Request(  # noqa: S310 - a fixed http address
            f"{self.imds}{path}",
            data=json.dumps(body).encode(),
            method=method,
            headers={"Metadata": "true", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_S):
                pass
        except (OSError, ValueError) as error:
            if isinstance(error, HTTPError):
                error.close()  # it is the answer, and holds its socket
            log.warning("%s %s failed: %s", method, path, error)


def this_node(environ: Mapping[str, str], *, kind: str) -> Node:
    """The node that this process runs on. Its name holds the process id between dashes."""
    suffix = f"{os.getpid()}-{secrets.token_hex(3)}"
    machine = environ.get("SALAD_MACHINE_ID")
    if machine:
        return SaladNode(f"{machine}-{suffix}", kind)
    return LocalNode(f"{socket.gethostname()}-{suffix}", kind)


if TYPE_CHECKING:

    def _conforms(local: LocalNode, salad: SaladNode) -> tuple[Node, Node]:
        return local, salad
