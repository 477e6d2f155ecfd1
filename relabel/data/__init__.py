"""What the draws hold.

ArviZ containers in; groups of datasets, and the roles of their variables, out.
"""
