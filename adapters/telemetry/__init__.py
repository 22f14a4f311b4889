"""Observers that report what a worker does: log lines, Prometheus metrics and OpenTelemetry traces.

They change nothing about a job and never make it wait, and their libraries are imported only when they are used.
"""
