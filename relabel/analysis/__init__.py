"""What aligned draws are used for.

Mean networks, comparisons of criteria, regions, reduced networks, tables of slots, the report
of an alignment.
"""
