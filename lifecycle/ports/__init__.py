"""The ports: one Protocol per file for everything the core needs from outside, with the values that it exchanges.

An adapter or a wrapper (retrying, signing, counting) implements a port and lives in `adapters`. Nothing here may have
an implementation, or import anything from the core except the flat modules of `lifecycle`.
"""
