"""Checkpoints: capturing a workload's files, uploading what changed, restoring, publishing and garbage collection.

Anything that turns files into objects in the bucket, or objects into files, belongs here. Nothing here may write a job
record, import `lifecycle.record`, or decide when a checkpoint is taken.
"""
