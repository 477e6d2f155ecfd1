"""Helpers without a subject of their own: versions of packages, progress."""
