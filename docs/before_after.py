"""Draw the picture of the README: units of the shipped shallow network, before and after.

Run ``python docs/before_after.py`` in the repository; needs Matplotlib.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

import relabel

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Write ``docs/before_after.png``."""
    draws = relabel.open_draws(ROOT / "data" / "tanh_shallow.nc")
    aligned = relabel.align(draws, relabel.mlp(1, "tanh"))
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharex=True, sharey=True, layout="tight")
    for panel, title, data in zip(panels, ("as sampled", "aligned"), (draws, aligned), strict=True):
        posterior = data["posterior"]
        for unit in range(posterior.sizes["unit"]):
            panel.scatter(
                posterior["W1"].values[:, :, 0, unit],
                posterior["W2"].values[:, :, unit, 0],
                s=2,
                alpha=0.3,
                color=f"C{unit}",
                label=f"unit {unit}",
            )
        panel.set(title=title, xlabel="incoming weight from the first input")
        panel.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        panel.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    panels[0].set_ylabel("outgoing weight")
    panels[1].legend(markerscale=4, frameon=False)
    figure.savefig(ROOT / "docs" / "before_after.png", dpi=110)


if __name__ == "__main__":
    main()
