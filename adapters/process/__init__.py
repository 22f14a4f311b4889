"""Workloads as child processes: the runner, the supervisor process around each workload, and `workloads.toml`.

Only files and signals pass between a worker and a workload; when a job is saved or stopped is not decided here.
"""
