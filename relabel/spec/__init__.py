"""The spec: one declaration of the units and of the axes that carry them.

A declaration in the axes notation and the draws come in; variables with resolved axes
(``Spec.bind``) and elements as labelled arrays (``Transformation``) go out.
"""
