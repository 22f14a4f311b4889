"""One worker's run at a job: claiming, staging, running, saving and finishing it.

Everything that happens in time lives here; what is stored, and how, belongs in `lifecycle.record` and
`lifecycle.checkpoint`, and nothing here talks to a vendor, a thread or the wall clock except through a port.
"""
