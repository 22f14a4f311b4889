"""Settings, credentials and telemetry of a process, and the composition root that builds its objects from them.

The only place that reads environment variables; nothing here reads a record or prints.
"""
