"""Networks of every group, layout and batch shape, with a forward pass of their own.

Nothing here calls the network, the transformation or the criteria of the package, so that a test
compares two independent accounts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import xarray as xr
from hypothesis import strategies as st
from scipy import special

from relabel import Spec, Transformation
from relabel.groups import group_of
from relabel.groups.elements import Monomial

#: One activation of every group, with its function.
FUNCTIONS: dict[str, Callable] = {
    "gelu": lambda z: z * special.ndtr(z),
    "tanh": np.tanh,
    "cos": np.cos,
    "sigmoid": special.expit,
    "relu": lambda z: np.maximum(z, 0.0),
    "abs": np.abs,
    "square": np.square,
    "linear": lambda z: z,
    "x^3": lambda z: z**3,
}
ACTIVATIONS = tuple(FUNCTIONS)
#: Those whose elements only gather and negate, so that nothing is rounded.
BITWISE = ("gelu", "tanh", "cos")
#: Those with a continuous scale.
SCALED = tuple(name for name in ACTIVATIONS if group_of(name).gauges())

LAYOUTS = ("in_out", "out_in", "flat", "extra", "draws_last", "vector", "blocks")
#: Layouts in which no network is evaluated.
JOINED = ("extra", "blocks")
N_IN, N_OUT = 4, 2  # both even: the layout `extra` splits them in two


@dataclass(frozen=True)
class Net:
    """Shape and storage of a network."""

    hidden: tuple[int, ...]
    activations: tuple[str, ...]
    layout: str = "in_out"
    gauge: str | None = None
    sizes: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", (N_IN, *self.hidden, N_OUT))

    @property
    def units(self) -> dict[str, str]:
        return {f"h{i}": name for i, name in enumerate(self.activations, 1)}

    @property
    def bitwise(self) -> bool:
        return set(self.activations) <= set(BITWISE)

    @property
    def spec(self) -> Spec:
        axes = {}
        for i, (tail, head) in enumerate(pairwise(["x", *self.units, "y"]), 1):
            axes[f"W{i}"], axes[f"b{i}"] = self._axes(tail, head)
        sizes = {"x": N_IN, "y": N_OUT, **dict(zip(self.units, self.hidden, strict=True))}
        if self.layout == "vector":
            axes = {"theta": f"({' + '.join(axes.values())})"}
        told = sizes if self.layout in ("flat", "vector") else {}
        gauges = {u: self.gauge for u, name in self.units.items() if self.gauge and name in SCALED}
        return Spec(self.units, axes, sizes=told, gauges=gauges)

    def _axes(self, tail: str, head: str) -> tuple[str, str]:
        if self.layout == "out_in":
            return f"{head} <- {tail}", f"-> {head}"
        if self.layout == "flat":
            return f"({tail} -> {head})", f"-> {head}"
        if self.layout == "extra":
            tail, head = {"x": "x _"}.get(tail, tail), {"y": "y _"}.get(head, head)
        if self.layout == "blocks":
            tail, head = {"x": "(x + x)"}.get(tail, tail), {"y": "(y + y)"}.get(head, head)
        return f"{tail} -> {head}", f"-> {head}"

    def store(self, weights: dict[str, np.ndarray]) -> xr.Dataset:
        """Lay weights (chain, draw, in, out) out as this layout stores them."""
        lead = ("chain", "draw") if weights["b1"].ndim == 3 else ()
        variables = {}
        if self.layout == "vector":
            names = [f"{kind}{i}" for i in range(1, len(self.sizes)) for kind in "Wb"]
            parts = [weights[n].reshape(*weights[n].shape[: len(lead)], -1) for n in names]
            weights = {"theta": np.concatenate(parts, axis=-1)}
        for name, values in weights.items():
            stored = self._stored(name, values, len(lead))
            core = tuple(f"{name}_dim_{i}" for i in range(stored.ndim - len(lead)))
            variables[name] = xr.Variable((*lead, *core), stored)
            if self.layout == "draws_last":
                variables[name] = variables[name].transpose(*core, *lead[::-1])
        return xr.Dataset(variables)

    def _stored(self, name: str, values: np.ndarray, n_lead: int) -> np.ndarray:
        lead = values.shape[:n_lead]
        matrix = name.startswith("W")
        if self.layout == "out_in" and matrix:
            return values.swapaxes(-1, -2)
        if self.layout == "flat" and matrix:
            return values.reshape(*lead, -1)
        if self.layout == "extra":
            core = list(values.shape[n_lead:])
            if name == "W1":
                core[0:1] = [N_IN // 2, 2]
            if name[1:] == str(len(self.sizes) - 1):
                core[-1:] = [N_OUT // 2, 2]
            return values.reshape(*lead, *core)
        return values

    def load(self, dataset: xr.Dataset) -> dict[str, np.ndarray]:
        """Read weights back as (chain, draw, in, out)."""
        weights = {}
        if self.layout == "vector":
            dataset, values = xr.Dataset(), dataset["theta"].transpose("chain", "draw", ...).values
            start = 0
            for i, (n_in, n_out) in enumerate(pairwise(self.sizes), 1):
                for name, shape in ((f"W{i}", (n_in, n_out)), (f"b{i}", (n_out,))):
                    stop = start + int(np.prod(shape))
                    weights[name] = values[..., start:stop].reshape(*values.shape[:2], *shape)
                    start = stop
        for name in dataset.data_vars:
            values = dataset[name].transpose("chain", "draw", ...).values
            layer = int(name[1:])
            shape = (
                self.sizes[layer - 1 : layer + 1]
                if name[0] == "W"
                else self.sizes[layer : layer + 1]
            )
            if self.layout == "out_in" and name[0] == "W":
                values = values.swapaxes(-1, -2)
            weights[name] = values.reshape(*values.shape[:2], *shape)
        return weights

    def outputs(self, dataset: xr.Dataset, inputs: np.ndarray) -> np.ndarray:
        """Evaluate the network of every draw, shape (chain, draw, n, out)."""
        weights = self.load(dataset)
        value = inputs
        for layer, name in enumerate([*self.activations, None], 1):
            value = value @ weights[f"W{layer}"] + weights[f"b{layer}"][..., None, :]
            value = FUNCTIONS[name](value) if name else value
        return value

    def random_weights(self, rng: np.random.Generator, batch: tuple[int, ...]) -> dict:
        """Weights without any structure."""
        weights = {}
        for layer, (n_in, n_out) in enumerate(pairwise(self.sizes), 1):
            weights[f"W{layer}"] = rng.normal(size=(*batch, n_in, n_out))
            weights[f"b{layer}"] = rng.normal(size=(*batch, n_out))
        return weights

    def scattered(
        self, rng: np.random.Generator, point: dict, batch: tuple[int, ...], noise: float
    ) -> dict:
        """Weights that scatter about a point."""
        return {
            name: value + noise * rng.normal(size=(*batch, *value.shape))
            for name, value in point.items()
        }

    def random_transformation(
        self, rng: np.random.Generator, batch: tuple[int, int]
    ) -> Transformation:
        """A random element for every draw."""
        return Transformation(
            {
                units: random_element(rng, name, (*batch, size))
                for (units, name), size in zip(self.units.items(), self.hidden, strict=True)
            }
        )


def random_element(rng: np.random.Generator, activation: str, shape: tuple[int, ...]) -> Monomial:
    """Draw elements of an activation's group, uniform but for lognormal scales."""
    group = group_of(activation)
    index = rng.permuted(np.broadcast_to(np.arange(shape[-1]), shape), axis=-1)
    factor = rng.choice([-1.0, 1.0], size=shape) if group.signs else np.ones(shape)
    if group.gauges():
        factor = factor * rng.lognormal(size=shape)
    return Monomial(index, factor)


def act(net: Net, element: Transformation, dataset: xr.Dataset) -> xr.Dataset:
    """Apply elements to draws."""
    return element.apply({"posterior": dataset}, net.spec.bind(dataset))["posterior"]


@st.composite
def nets(draw: st.DrawFn, max_layers: int = 2, max_units: int = 4) -> Net:
    """Networks of all activations (another one in every layer) and layouts."""
    hidden = draw(st.lists(st.integers(1, max_units), min_size=1, max_size=max_layers))
    names = draw(st.tuples(*(st.sampled_from(ACTIVATIONS) for _ in hidden)))
    gauge = draw(st.sampled_from([None, "balanced", "unit"]))
    return Net(tuple(hidden), names, draw(st.sampled_from(LAYOUTS)), gauge)


batches = st.sampled_from([(1, 1), (1, 6), (3, 1), (2, 5)])
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)
