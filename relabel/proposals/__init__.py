"""Guesses at a spec.

Names, shapes and values of draws in; a spec with its assumptions and doubts out.
"""
