"""Draws as they are stored.

ArviZ containers come in; groups of datasets and the roles of their variables go out.
"""
