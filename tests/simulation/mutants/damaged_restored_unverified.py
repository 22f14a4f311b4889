"""A restored file is not compared with its hash: a damaged checkpoint is worked on."""

from simulation.checker import NEVER_BACK, NOTHING_BREAKS, ONE_WINNER

import lifecycle.restore

FOUND_AS = (NOTHING_BREAKS, ONE_WINNER, NEVER_BACK)


def install() -> None:
    def unverified(store, entry, file):
        for extent in entry.extents:
            store.get_range(extent.pack, file, offset=extent.offset, length=extent.length)

    lifecycle.restore._fetch_extents = unverified
