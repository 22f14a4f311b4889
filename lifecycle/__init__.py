"""The core of Holdfast: the states of a job, its record, its checkpoints, and the attempts that carry it out.

Everything here is decided from values and through ports. No vendor's library, thread, socket or wall clock may be
imported, and nothing from `adapters` or `client`.
"""

__version__ = "0.1.0"
