"""Draws in the form in which other libraries hold them, and back: one file for each form.

Every reader returns an :class:`xarray.DataTree` with a group ``posterior`` of the dimensions chain
and draw, which :func:`relabel.align` takes. The libraries themselves are imported where they are
used. No pickle is ever loaded.
"""
