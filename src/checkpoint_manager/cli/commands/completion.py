"""``completion``: what a shell needs to complete commands, options and the names of stages.

Stage names are visible to anyone who can list the store's directory, so no key is needed. Only plain ones are offered: a name
that someone planted with quotes or line ends in it is not handed to a shell.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from checkpoint_manager.cli import COMPLETION, NAME
from checkpoint_manager.cli.output import write_text


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
def completion(shell: str) -> None:
    """Print a script that lets your SHELL (bash, zsh or fish) complete commands, options and stages.

    \b
    Examples:
      checkpoint-manager completion bash >> ~/.bashrc
      checkpoint-manager completion zsh >> ~/.zshrc
      checkpoint-manager completion fish > ~/.config/fish/completions/checkpoint-manager.fish
    """
    program = click.get_current_context().find_root()
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101  # for the type checker: click has these three
    write_text(f"{script(program.command, {}, NAME, COMPLETION).source().strip()}\n")
