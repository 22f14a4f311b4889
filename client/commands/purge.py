"""`holdfast purge storage|queue`: delete everything under the prefix, or all messages, after asking."""

from typing import Final

from client.config.environment import Environment
from client.views.output import say
from client.views.progress import progress_bar
from client.views.prompt import confirm
from client.views.text import format_size

DELETE_BATCH: Final = 1000


def run(env: Environment, what: str, *, yes: bool) -> int:
    """Purge *what*, `storage` or `queue`.

    Returns:
        0; 1 if the answer was no.

    Raises:
        ConfigError: There is no terminal to ask on, and *yes* is not set.
    """
    return purge_storage(env, yes=yes) if what == "storage" else purge_queue(env, yes=yes)


def purge_storage(env: Environment, *, yes: bool) -> int:
    """Delete every object under the prefix: records first, because an owner whose record is gone writes no more."""
    prefix = f"{env.layout.prefix}/" if env.layout.prefix else ""
    listed = list(env.store.list(prefix))
    where = f"{env.bucket or env.settings.home}/{prefix}"
    size = format_size(sum(one.size_bytes for one in listed))
    if not (yes or confirm(f"delete all {len(listed)} objects ({size}) under {where}?")):
        return 1
    records = [one.key for one in listed if one.key.startswith(env.layout.records)]
    others = [one.key for one in listed if not one.key.startswith(env.layout.records)]
    with progress_bar("deleting", len(listed)) as advance:
        for keys in (records, others):
            for start in range(0, len(keys), DELETE_BATCH):
                batch = keys[start : start + DELETE_BATCH]
                env.store.delete(batch)
                advance(len(batch))
    say(f"deleted {len(listed)} objects, {size}")
    return 0


def purge_queue(env: Environment, *, yes: bool) -> int:
    """Delete every message, in flight or not."""
    depth = env.queue.depth()
    total = depth.available + depth.in_flight + depth.delayed
    if not (yes or confirm(f"delete all messages (about {total})?")):
        return 1
    env.queue.purge()
    say("queue purged; unfinished jobs keep their records: `holdfast reconcile --older 0` sends new messages")
    return 0
