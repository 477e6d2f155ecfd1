"""The spec.

Notation and declaration in; variables with resolved axes (``Spec.bind``), and elements as
labelled arrays (``Transformation``) out.
"""
