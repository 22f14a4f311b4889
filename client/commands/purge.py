"""`holdfast purge storage|queue`: remove everything. Asks first."""

import sys

from client.commands.storage import human
from client.config.composition import Environment
from client.views.progress import bar
from lifecycle.errors import ConfigError


def run(env: Environment, what: str, *, yes: bool) -> int:
    """Purge *what*, `storage` or `queue`.

    Returns:
        0; 1 if the answer was no.

    Raises:
        ConfigError: There is nobody to ask, and no --yes.
    """
    return purge_storage(env, yes=yes) if what == "storage" else purge_queue(env, yes=yes)


def purge_storage(env: Environment, *, yes: bool) -> int:
    """Remove every object under the prefix. Records first: an owner that finds its record gone writes no more."""
    prefix = f"{env.layout.prefix}/" if env.layout.prefix else ""
    listed = list(env.store.list(prefix))
    where = f"{env.bucket or env.settings.home}/{prefix}"
    size = human(sum(one.size_bytes for one in listed))
    if not (yes or confirmed(f"remove all {len(listed)} objects ({size}) under {where}?")):
        return 1
    records = [one.key for one in listed if one.key.startswith(env.layout.records)]
    others = [one.key for one in listed if not one.key.startswith(env.layout.records)]
    with bar("removing", len(listed)) as advance:
        for keys in (records, others):
            for start in range(0, len(keys), 1000):
                batch = keys[start : start + 1000]
                env.store.delete(batch)
                advance(len(batch))
    print(f"removed {len(listed)} objects, {size}")
    return 0


def purge_queue(env: Environment, *, yes: bool) -> int:
    """Remove every message, in flight or not."""
    depth = env.queue.depth()
    total = depth.available + depth.in_flight + depth.delayed
    if not (yes or confirmed(f"remove all messages (about {total})?")):
        return 1
    env.queue.purge()
    print("queue purged; unfinished jobs keep their records: `holdfast reconcile --older 0` announces them again")
    return 0


def confirmed(question: str) -> bool:
    """Ask a person; only a full yes is one.

    Raises:
        ConfigError: There is no person.
    """
    if not sys.stdin.isatty():
        raise ConfigError("nobody here to ask: say --yes if you mean it")
    try:
        return input(f"{question} [yes/no] ").strip().lower() == "yes"
    except EOFError:
        return False
