"""Reading job records and logs: one by one, many at once, from a local index, or from the archive.

Nothing here changes a job, prints, or decides how something is shown.
"""
