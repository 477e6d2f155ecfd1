"""Matching.

Draws and a criterion in; for every draw the element of the group that carries it into the
reference mode, out.
"""
