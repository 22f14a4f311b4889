"""The embedded default for the processes of one machine: a queue in SQLite, a store in a directory, the host itself.

Everything here works without a network and survives power loss; nothing here is a fake for tests.
"""
