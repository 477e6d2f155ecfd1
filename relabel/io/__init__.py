"""Files: paths in, draws and specs out, and back again.

:mod:`relabel.sources` knows the kinds of files; here a kind is chosen, and a file gets its name
when it is complete.
"""
