"""What remains after alignment: which labels can be believed, and what no relabelling explains.

In comes what an alignment returned (`aligned` reads it once); `diagnosing` runs all `checks`, one
question and one file each, which compute with `kernels` and `likelihood`; out come the same draws
with results in the group ``relabel``, and a `diagnosis`: measurements, findings, a report.
"""
