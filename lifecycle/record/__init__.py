"""The job record: its encoding, its compare-and-swap store, the owner's session, claiming, messages and the archive.

Anything that reads or writes a record, or decides by one who may run a job, belongs here. Nothing here may touch a
workload's files, import `lifecycle.checkpoint`, or know how an attempt proceeds.
"""
