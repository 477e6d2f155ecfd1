"""Numerical kernels.

Arrays in, arrays out. NumPy and SciPy only, no names and no labelled arrays.
"""
