"""`holdfast completion SHELL`: print the script with which a shell completes commands, options and job ids."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from client import options
from client.views.output import say

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_HOLDFAST_COMPLETE"


@options.command(
    "completion",
    ('eval "$(holdfast completion bash)"', "Complete words in this bash; add the line to ~/.bashrc."),
    ("holdfast completion fish > ~/.config/fish/completions/holdfast.fish", "Complete words in fish."),
)
@click.argument("shell", type=click.Choice(SHELLS))
def command(*, shell: str) -> int:
    """Print the script that completes words in a shell.

    It completes commands, options, their values, and the ids of jobs that were listed before.
    """
    made = get_completion_class(shell)
    if made is not None:
        say(made(click.Command("holdfast"), {}, "holdfast", VARIABLE).source())
    return 0
