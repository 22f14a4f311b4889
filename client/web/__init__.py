"""The dashboard: pages, their data, and their protection; it needs the extra `dashboard`.

Only `client.commands.dashboard` may import it, and it imports no command.
"""
