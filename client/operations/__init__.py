"""Acts on jobs, the queue and the bucket that operators ask for; commands and the dashboard share them.

Nothing here parses a command line, prints, or formats for people; progress is reported to a callback.
"""
