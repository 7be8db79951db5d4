"""`python -m packlore` is the `packlore` command."""

from packlore.cli import command

command()
