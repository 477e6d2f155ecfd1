"""Proposals of a spec.

Names, shapes and values of draws come in; a spec with its assumptions and doubts goes out.
"""
