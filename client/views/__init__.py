"""Turning records into what people and scripts see: text, tables, progress bars, drawings, JSON, and derived figures.

Nothing here changes a job or reads the bucket.
"""
