"""``python -m relabel`` is the command."""

from relabel.cli.app import main

main()
