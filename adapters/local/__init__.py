"""The embedded default: a queue in a SQLite file and a store in a directory, for the processes of one machine."""
