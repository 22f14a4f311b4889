"""The outer ring: the command line, the dashboard, and the composition root.

It may import every adapter and the core; nothing outside it may import it.
"""
