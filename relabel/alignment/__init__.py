"""Alignment.

ArviZ data and a spec in; relabelled data with their provenance out; and the way back.
"""
