"""A third party's source: tables of draws as plain text.

The first line is ``#draws``, the second names the variables with their sizes (``mu:3 tau``); every
further line is one draw: the number of its chain, and its values.
"""

import numpy as np

from relabel.errors import DataError, FileError
from relabel.sources import Source, tree_of
from relabel.sources.samples import samples_of


def detect(_path, start):
    """Whether a file begins as these tables do."""
    return start.startswith(b"#draws\n")


def read(paths, *, decimal="."):
    """Read one table."""
    lines = paths[0].read_text().replace(decimal, ".").splitlines()
    header = [name.partition(":") for name in lines[1].split()]
    shapes = {name: (int(size),) if size else () for name, _, size in header}
    try:
        table = np.array([line.split() for line in lines[2:]], dtype=float)
    except ValueError as error:
        raise FileError(f"{paths[0]}: a damaged table of draws: {error}") from error
    chains = np.stack([table[table[:, 0] == chain, 1:] for chain in np.unique(table[:, 0])])
    samples, start = {}, 0
    for name, shape in shapes.items():
        stop = start + int(np.prod(shape))
        samples[name] = chains[:, :, start:stop].reshape(*chains.shape[:2], *shape)
        start = stop
    return tree_of(samples, source="draws table", sample_dims="chain draw")


def write(data, path):
    """Write one table."""
    samples = samples_of(data)
    if not samples or any(array.ndim > 3 for array in samples.values()):
        raise DataError("a table of draws holds numbers and vectors")
    header = [f"{name}:{a.shape[2]}" if a.ndim == 3 else name for name, a in samples.items()]
    n_chains, n_draws = next(iter(samples.values())).shape[:2]
    rows = np.concatenate([a.reshape(n_chains, n_draws, -1) for a in samples.values()], axis=2)
    lines = [
        f"{chain} {' '.join(map(repr, row.tolist()))}"
        for chain in range(n_chains)
        for row in rows[chain]
    ]
    path.write_text("\n".join(["#draws", " ".join(header), *lines, ""]))


TABLE = Source(
    "draws table",
    detect,
    read,
    options=("decimal",),
    separate="join them with xarray",
    suffixes=(".draws",),
    write=write,
)
