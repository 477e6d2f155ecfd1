"""Uses of aligned draws.

Aligned draws come in; mean and reduced networks, redrawn scales, credible regions, tables of slots
and reports of an alignment, of its function and of several criteria go out.
"""
