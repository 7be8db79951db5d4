"""From arguments to text on the terminal.

Comes in: the words of a command line. Goes out: text or JSON on stdout, what went wrong on
stderr, an exit code. Never: work that a caller without a terminal could want, too.
"""

from packlore.cli.commands import command, main

__all__ = ["command", "main"]
