"""The command line: one file per command, the options that they share, printing, completion.

Arguments come in; files and lines of text go out. A help page needs nothing but the standard
library and Typer: the packages that compute are imported by the command that runs.
"""
