"""``relabel convert``: write draws as another kind of file."""

from __future__ import annotations

from relabel.cli.options import RequiredOutputOptions, SourceOptions

__all__ = ["command"]


def command(source: SourceOptions, result: RequiredOutputOptions) -> None:
    """Write the draws of FILE as another kind of file, which the name of the output tells.

    Draws of any sampler become netCDF or Zarr; draws that `align` wrote become weights as they
    came, such as .safetensors or .npz.
    """
    result.check(source.files)
    result.save(source.open(), source=source.files, changed=())
    result.announce()
