"""The ports: what the core asks of the world, one file each.

Every adapter implements one of them; every wrapper (retrying, counting, failing) implements one and holds one.
"""
