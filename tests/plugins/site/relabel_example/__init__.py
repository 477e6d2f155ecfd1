"""A third party's package: one plug-in of every kind, each in a file of its own."""
