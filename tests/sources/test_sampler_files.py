"""Files as users of NumPyro and PyMC save them, made by tests/data/make_samplers.py."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import xarray as xr
from files import RECORDED, run

import relabel
from relabel import Spec
from relabel.data.provenance import Provenance

DATA = RECORDED / "samplers"


@dataclass(frozen=True)
class Case:
    """A file, its units, and the names of W1, b1, W2, b2."""

    name: str
    units: str
    size: int
    weights: tuple[str, ...] = ("W1", "b1", "W2", "b2")
    axes: dict[str, str] = field(default_factory=dict)  # if they cannot be proposed
    named: bool = False

    @property
    def path(self):
        return DATA / f"{self.name}.nc"

    def spec(self, data):
        """The natural spec: proposed, unless a variable needs a word of its own."""
        if self.axes:
            return Spec({self.units: "tanh"}, self.axes)
        proposal = relabel.propose(data, units={self.units: "tanh"})
        assert proposal.certain
        return proposal.spec

    @property
    def options(self):
        lines = [part for v, line in self.axes.items() for part in ("--axes", f"{v}: {line}")]
        return ["--units", f"{self.units}=tanh", *lines]


PLATES = {"W1": "x -> hidden", "b1": "-> hidden", "W2": "hidden ->", "scale": "hidden^0"}
CASES = [
    Case("numpyro_default", "h", 3),
    Case("numpyro_plates", "hidden", 4, axes=PLATES, named=True),
    Case("pymc_named", "hidden", 4, named=True),
    Case("pymc_unnamed", "h", 3, ("w_in", "b_in", "w_out", "b_out")),
]
ACCOUNTS = {
    "pymc_unnamed": ("h: 3 × tanh (signed permutation)", "2 × 100", "w_in: x -> h; b_in: -> h")
}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def load(path):
    """Open a file as its user would, and read all of it."""
    import arviz

    data = arviz.from_netcdf(path)
    data.load()
    data.close()
    return data


def groups(data):
    """Groups of an InferenceData or a DataTree as datasets."""
    tree = data if isinstance(data, xr.DataTree) else data.to_datatree()
    return {name: tree[name].to_dataset() for name in tree.children}


def outputs(case, draws, X):
    """Outputs of the network for all draws."""
    W1, b1, W2, b2 = (draws[v].values.astype(float) for v in case.weights)
    lead = W1.shape[:2]
    hidden = np.tanh(X @ W1 + b1[:, :, None])
    return (hidden @ W2.reshape(*lead, case.size, 1))[..., 0] + b2.reshape(*lead, 1)


def assert_same_bits(found, expected):
    assert list(found) == list(expected)
    for group, dataset in expected.items():
        assert found[group].attrs.keys() == dataset.attrs.keys()
        for name, variable in dataset.variables.items():
            other = found[group].variables[name]
            assert (other.dims, other.dtype) == (variable.dims, variable.dtype)
            if variable.dtype.kind in "OUT":
                assert other.values.tolist() == variable.values.tolist()
            else:
                assert other.values.tobytes() == variable.values.tobytes()


@every_case
def test_the_file_is_what_the_sampler_writes(case):
    found = groups(load(case.path))
    assert {"posterior", "sample_stats", "constant_data", "observed_data"} <= set(found)
    assert found["posterior"].sizes["chain"] == 2
    assert found["posterior"].sizes["draw"] == 100
    assert (case.units in found["posterior"].dims) == case.named
    kind = np.float32 if case.name.startswith("numpyro") else np.float64
    assert all(found["posterior"][v].dtype == kind for v in case.weights)
    assert ("warmup_posterior" in found) == (case.name == "pymc_unnamed")


@every_case
def test_without_a_word_permutations_are_proposed(case):
    data = load(case.path)
    proposal = relabel.propose(data)
    assert proposal.certain
    assert list(proposal.spec.units.values()) == ["permutation"]
    aligned = groups(relabel.align(data, proposal.spec))
    check_alignment(case, groups(data), aligned, *proposal.spec.units)
    assert (aligned["relabel"][f"{next(iter(proposal.spec.units))}_factor"] == 1).all()


@every_case
def test_align_and_undo(case):
    data = load(case.path)
    aligned = relabel.align(data, case.spec(data))
    assert type(aligned) is type(data)
    notes = Provenance.of(aligned).as_dict()
    assert notes["losses"][-1] < 0.6 * notes["loss_before"]
    check_alignment(case, groups(data), groups(aligned), case.units)
    assert_same_bits(groups(relabel.undo(aligned)), groups(data))


def check_alignment(case, before, after, units):
    """The same network with other labels; chains and warm-up are told apart no longer."""
    X = before["constant_data"]["X"].values
    for group in [g for g in before if g.endswith("posterior")]:
        old, new = before[group], after[group]
        assert list(new.data_vars) == list(old.data_vars)
        expected = outputs(case, old, X)
        atol = 1e-12 * np.abs(expected).max()
        np.testing.assert_allclose(outputs(case, new, X), expected, rtol=0, atol=atol)
        index = after[group.replace("posterior", "relabel")][f"{units}_index"].values
        assert (np.sort(index, axis=2) == np.arange(case.size)).all()
        assert (index != np.arange(case.size)).any()
    assert not before["posterior"][case.weights[0]].equals(after["posterior"][case.weights[0]])
    for group in set(before) - {"posterior", "warmup_posterior"}:
        xr.testing.assert_identical(after[group], before[group])


def test_the_scale_of_a_unit_moves_with_it():
    case = CASES[1]
    data = load(case.path)
    before, after = groups(data), groups(relabel.align(data, case.spec(data)))
    index = after["relabel"]["hidden_index"].values
    factor = after["relabel"]["hidden_factor"].values
    assert (factor < 0).any()
    old, new = (g["posterior"] for g in (before, after))
    moved = {v: np.take_along_axis(old[v].values, index, axis=2) for v in ("scale", "b1")}
    assert np.array_equal(new["scale"].values, moved["scale"])
    assert np.array_equal(new["b1"].values, moved["b1"] * factor)


def test_a_scale_is_not_taken_for_a_weight():
    """Scales that are named so follow the units' order and not their signs, which is said."""
    data = load(CASES[1].path)
    proposal = relabel.propose(data, units={"hidden": "tanh"})
    assert not proposal.certain
    assert "'hidden^0'" in proposal.doubts[0]
    aligned = relabel.align(data, {"hidden": "tanh"})
    assert (aligned["relabel"]["hidden_factor"] < 0).any()
    assert (aligned["posterior"]["scale"] > 0).all()
    record = Provenance.of(aligned)
    assert record.spec.axes["posterior/scale"] == "hidden^0"
    assert any("'scale' cannot be negative, and was permuted" in note for note in record.warnings)


@every_case
def test_from_file_to_file(case, tmp_path):
    out = tmp_path / "aligned.nc"
    words = ACCOUNTS.get(case.name, ())  # one is enough: it takes seconds to import ArviZ
    done = run("align", case.path, "-o", out, *case.options, *([] if words else ["--quiet"]))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert all(word in done.stdout for word in words)
    assert bool(done.stdout) == bool(words)
    aligned, original = load(out), load(case.path)
    assert "relabel" in groups(aligned)
    check_alignment(case, groups(original), groups(aligned), case.units)
    in_memory = groups(relabel.align(original, case.spec(original)))
    for name in ("posterior", "warmup_posterior"):
        if name in in_memory:
            xr.testing.assert_equal(groups(aligned)[name], in_memory[name])
    assert_same_bits(groups(relabel.undo(aligned)), groups(original))
