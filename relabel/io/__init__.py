"""Files.

Paths in, data out, and back again; a file that is written gets its name when it is complete.
"""
