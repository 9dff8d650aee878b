"""The command line tool: a file ``<name>_command.py`` for each command, and what the commands need.

A command's module has a docstring whose first line is its help, ``EXIT_STATUS``, ``add_arguments(parser)`` and
``run(arguments)``, which returns the exit status; its name stands in ``COMMANDS``.
"""

from __future__ import annotations

#: In the order in which --help lists them.
COMMANDS = ("list", "doctor", "reset")
