"""Pins: checkpoints that garbage collection spares, each an object of its own beside the record.

They are not in the record, because any write to it would renew the lease of an owner that may be dead.

A pin names a checkpoint that the record names when the pin is already written. So a collection that could remove the
checkpoint belongs to a later commit. It lists the pins after that commit, and finds this one.
"""

import json
from typing import Final

import cattrs
from attrs import asdict, frozen

from lifecycle.errors import PermanentError
from lifecycle.job_record import CheckpointRef
from lifecycle.key_layout import JobKeys
from lifecycle.ports.store import ObjectStore
from lifecycle.serialization import strict_converter

BY_OPERATOR: Final = "operator"
BY_WORKLOAD: Final = "keep"


@frozen
class Pin:
    """A pinned checkpoint.

    Attributes:
        ref: The checkpoint.
        by: BY_OPERATOR, or BY_WORKLOAD for a milestone that the workload's `keep` asks for.
        at: Time of the pin, ISO 8601 UTC, by the clock of the one who set it.
    """

    ref: CheckpointRef
    by: str
    at: str


def list_pins(store: ObjectStore, keys: JobKeys) -> list[Pin]:
    """Return the pins of a job, in order of the checkpoints' numbers.

    Raises:
        RetryableError: They cannot be read.
        PermanentError: One of them is damaged; the message names it.
    """
    found = []
    for listed in store.list(keys.pins):
        stored = store.get(listed.key)
        if stored is None:  # removed meanwhile
            continue
        try:
            found.append(strict_converter().structure(json.loads(stored.body), Pin))
        except (ValueError, TypeError, KeyError, RecursionError, cattrs.BaseValidationError) as error:
            raise PermanentError(f"{listed.key} is not a pin: {error}") from error
    return sorted(found, key=lambda pin: pin.ref.seq)


def put_pin(store: ObjectStore, keys: JobKeys, pin: Pin) -> None:
    """Write *pin*. Safe to repeat.

    Raises:
        RetryableError: It may be written or not.
    """
    store.put(keys.pin(pin.ref.seq), json.dumps(asdict(pin)).encode())


def remove_pin(store: ObjectStore, keys: JobKeys, seq: int) -> None:
    """Remove the pin of the checkpoint with number *seq*. Safe to repeat.

    Raises:
        RetryableError: It may be removed or not.
    """
    store.delete([keys.pin(seq)])
