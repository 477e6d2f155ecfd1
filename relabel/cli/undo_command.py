"""``relabel undo``: write draws as they were before they were aligned."""

from __future__ import annotations

from relabel.cli.options import AlignedFile, Group, RequiredOutputOptions

__all__ = ["command"]


def command(file: AlignedFile, result: RequiredOutputOptions, group: Group = "posterior") -> None:
    """Write the draws of FILE as they were before they were aligned."""
    from relabel.alignment.inverse import undo
    from relabel.alignment.provenance import relabelled
    from relabel.io.reading import load, open_draws

    result.check(file)
    aligned = open_draws(file)
    changed = relabelled(aligned, group)
    load(aligned, changed, file)
    result.save(undo(aligned, group=group), source=file, changed=changed)
    result.announce()
