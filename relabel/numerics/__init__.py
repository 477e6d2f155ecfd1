"""Numerical kernels.

Arrays come in, arrays go out: NumPy and SciPy only, no names and no labelled arrays.
"""
