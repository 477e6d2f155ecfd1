"""Values of any size, offsets, integers, and what is not finite: right, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import relabel
from relabel.data.provenance import Provenance
from relabel.errors import DataError

SAMPLE = ("chain", "draw")
SIZES = (2.0**-560, 2.0**530)


def mixture(seed: int = 0) -> tuple[xr.Dataset, np.ndarray]:
    """Two parameters and allocations of three components in random order, and the order."""
    rng = np.random.default_rng(seed)
    perm = np.argsort(rng.random((2, 30, 3)), axis=2)
    means = np.array([1.0, 5.0, 10.0]) + 0.1 * rng.normal(size=(2, 30, 3))
    other = np.array([2.0, 1.0, 3.0]) + 0.1 * rng.normal(size=(2, 30, 3))
    z = rng.integers(0, 3, 40)
    labels = np.take_along_axis(np.argsort(perm, 2), np.broadcast_to(z, (2, 30, 40)), 2)
    arrays = {n: np.take_along_axis(v, perm, 2) for n, v in (("mu", means), ("sd", other))}
    data = {name: ((*SAMPLE, "k"), values) for name, values in arrays.items()}
    return xr.Dataset(data | {"z": ((*SAMPLE, "obs"), labels)}), perm


def loadings(seed: int = 0) -> xr.Dataset:
    """Loadings of two factors, in random order and with random signs."""
    rng = np.random.default_rng(seed)
    true = np.array([[3.0, 0.2], [2.0, -0.5], [0.4, 1.0], [0.1, 2.0]])
    values = true + 0.05 * rng.normal(size=(2, 30, 4, 2))
    swap = rng.random((2, 30)) < 0.5
    values = np.where(swap[..., None, None], values[..., ::-1], values)
    values *= rng.choice([-1.0, 1.0], size=(2, 30, 1, 2))
    return xr.Dataset({"lam": ((*SAMPLE, "item", "f"), values)})


def elements(aligned: xr.Dataset) -> dict[str, np.ndarray]:
    """What the alignment did."""
    ends = ("index", "factor", "rotation")
    return {str(n): v.values for n, v in aligned.data_vars.items() if str(n).endswith(ends)}


def assert_alike(one: xr.Dataset, two: xr.Dataset, atol: float = 1e-9) -> None:
    """Both alignments did the same."""
    first, second = elements(one), elements(two)
    assert first
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=0, atol=atol)


def assert_alike_but_for_slots(one: xr.Dataset, two: xr.Dataset, units: str = "k") -> None:
    """Both alignments permuted the draws in the same way, seen from the first draw."""
    seen = []
    for aligned in (one, two):
        index = aligned[f"relabel_{units}_index"].values
        seen.append(index[:, :, np.argsort(index[0, 0])])
    np.testing.assert_array_equal(*seen)


def rotates(spec: Any) -> bool:
    """Whether units mix, so that the way back is not exact."""
    return isinstance(spec, relabel.Spec) and "rotation" in spec.units.values()


def scaled(data: xr.Dataset, factor: float) -> xr.Dataset:
    """All variables of floats times a number."""
    floats = [n for n, v in data.data_vars.items() if v.dtype.kind == "f"]
    return data.assign({name: data[name] * factor for name in floats})


# ---------------------------------------------------------------------- sizes

CRITERIA: dict[str, tuple[Any, Any, Any]] = {
    "mean": ("mean", mixture()[0], {"k": "permutation"}),
    "normal": ("normal", mixture()[0], {"k": "permutation"}),
    "mean unscaled": (relabel.criteria.Mean(scale="none"), mixture()[0], {"k": "permutation"}),
    "full": (relabel.criteria.Normal(covariance="full"), mixture()[0], {"k": "permutation"}),
    "wasserstein": ("wasserstein", mixture()[0], {"k": "permutation"}),
    "order": (relabel.criteria.Order(var_names="mu"), mixture()[0], {"k": "permutation"}),
    "pra": (relabel.criteria.PRA(reference="medoid"), mixture()[0], {"k": "permutation"}),
    "to-reference": (
        relabel.criteria.ToReference({"chain": 0, "draw": 1}),
        mixture()[0],
        {"k": "permutation"},
    ),
    "ecr": (
        relabel.criteria.ECR(z="z", reference={"chain": 0, "draw": 1}),
        mixture()[0],
        {"k": "permutation"},
    ),
    "signed mean": ("mean", loadings(), relabel.Spec({"f": "signed"}, {"lam": "_ f"})),
    "rsp": ("rsp", loadings(), relabel.Spec({"f": "rotation"}, {"lam": "_ f"})),
    "procrustes": ("procrustes", loadings(), relabel.Spec({"f": "rotation"}, {"lam": "_ f"})),
    "weighted": (
        "weighted-procrustes",
        loadings(),
        relabel.Spec({"f": "rotation"}, {"lam": "_ f"}),
    ),
    "matchalign": ("matchalign", loadings(), relabel.Spec({"f": "rotation"}, {"lam": "_ f"})),
}


@pytest.mark.parametrize("factor", SIZES)
@pytest.mark.parametrize("case", CRITERIA)
def test_labels_do_not_depend_on_the_size_of_values(case: str, factor: float) -> None:
    criterion, data, spec = CRITERIA[case]
    plain = relabel.align(data, spec, criterion=criterion)
    aligned = relabel.align(scaled(data, factor), spec, criterion=criterion)
    assert_alike(plain, aligned, 1e-9)
    assert np.isfinite(aligned["relabel_loss"]).all()
    units = "k" if "mu" in data else "f"
    margin = aligned[f"relabel_{units}_margin"].values
    assert np.isnan(margin).all() or (margin > 0).any()
    for name, values in scaled(data, factor).items():
        back = relabel.undo(aligned)[name].values / factor
        np.testing.assert_allclose(back, values / factor, rtol=0, atol=1e-12 * rotates(spec))


def test_each_variable_has_a_size_of_its_own() -> None:
    data, _ = mixture()
    sized = data.assign(mu=data["mu"] * SIZES[0], sd=data["sd"] * SIZES[1])
    plain, aligned = (
        relabel.align(d, {"k": "permutation"}, criterion="mean") for d in (data, sized)
    )
    assert_alike(plain, aligned)
    np.testing.assert_allclose(aligned["relabel_loss"], plain["relabel_loss"], rtol=1e-9)
    assert not any("2**" in text for text in Provenance.of(aligned).warnings)


def test_log_densities_change_by_the_logs_of_the_sizes() -> None:
    data, _ = mixture()
    sized = data.assign(mu=data["mu"] * SIZES[0], sd=data["sd"] * SIZES[1])
    plain, aligned = (relabel.align(d, {"k": "permutation"}) for d in (data, sized))
    assert_alike(plain, aligned)
    apart = aligned["relabel_loss"] - plain["relabel_loss"]  # the logs of the sizes
    np.testing.assert_allclose(apart, apart.mean(), rtol=1e-9)
    (told,) = (text for text in Provenance.of(aligned).warnings if "2**" in text)
    assert "losses and margins are those of these values times" in told


def test_losses_that_are_not_in_units_of_the_draws_say_so() -> None:
    data = scaled(mixture()[0], SIZES[1])
    aligned = relabel.align(data, {"k": "permutation"}, criterion="wasserstein")
    assert any("times 2**-534" in text for text in Provenance.of(aligned).warnings)


def test_scales_of_units_are_refused_where_squares_are_not_held() -> None:
    rng = np.random.default_rng(0)
    net = xr.Dataset(
        {
            "W1": ((*SAMPLE, "x", "h"), rng.normal(size=(1, 8, 2, 3)) * 1e-170),
            "W2": ((*SAMPLE, "h", "y"), rng.normal(size=(1, 8, 3, 1))),
        }
    )
    spec = relabel.Spec({"h": "relu"}, {"W1": "x -> h", "W2": "h -> y"})
    with pytest.raises(DataError, match=r"'W1' has values of a size of .*e-170.*rescale it"):
        relabel.align(net, spec)


@given(exponent=st.integers(-900, 900), seed=st.integers(0, 3))
def test_a_power_of_two_changes_no_element(exponent: int, seed: int) -> None:
    data = mixture(seed)[0]
    assert_alike(
        relabel.align(data, {"k": "permutation"}),
        relabel.align(scaled(data, 2.0**exponent), {"k": "permutation"}),
    )


# ---------------------------------------------------------------------- offsets


@pytest.mark.parametrize("offset", [1e6, 1e9, 1e11, 1e13])
def test_a_small_spread_at_a_large_offset_is_seen(offset: float) -> None:
    data, _ = mixture()
    rng = np.random.default_rng(1)
    data = data[["mu"]].assign(noise=((*SAMPLE, "k"), 1e-3 * rng.normal(size=(2, 30, 3))))
    aligned = relabel.align(data.assign(mu=data["mu"] + offset), {"k": "permutation"})
    assert_alike_but_for_slots(aligned, relabel.align(data, {"k": "permutation"}))


@given(power=st.integers(0, 44), sign=st.sampled_from([-1.0, 1.0]))
def test_an_offset_changes_no_element(power: int, sign: float) -> None:
    data = np.round(mixture()[0][["mu"]] * 64) / 64  # sums with the offset are exact
    moved = relabel.align(data + sign * 2.0**power, {"k": "permutation"})
    assert_alike_but_for_slots(relabel.align(data, {"k": "permutation"}), moved)


def test_an_offset_of_what_two_sets_share_is_taken_off() -> None:
    rng = np.random.default_rng(0)
    true = np.array([[5.0, 1.0, 2.0], [1.0, 7.0, 0.0], [3.0, 0.5, 9.0]])
    perm = np.argsort(rng.random((1, 30, 3)), axis=2)
    values = true[perm[..., :, None], perm[..., None, :]] + 0.1 * rng.normal(size=(1, 30, 3, 3))
    spec = relabel.Spec({"s": "permutation"}, {"P": "s s"})
    plain, moved = (
        relabel.align(xr.Dataset({"P": ((*SAMPLE, "s", "s2"), values + offset)}), spec)
        for offset in (0.0, 1e11)
    )
    assert_alike_but_for_slots(plain, moved, "s")


# ---------------------------------------------------------------------- single draws


def test_one_huge_draw_is_named_and_may_be_left_out() -> None:
    data, _ = mixture()
    data["mu"][1, 7] *= 1e160
    with pytest.raises(DataError, match=r"1 of 60 draws .* chain 1, draw 7; mu has 9.*e\+160"):
        relabel.align(data, {"k": "permutation"})
    aligned = relabel.align(data, {"k": "permutation"}, nonfinite="skip")
    assert np.argwhere(aligned["relabel_excluded"].values).tolist() == [[1, 7]]
    xr.testing.assert_equal(aligned["mu"][1, 7], data["mu"][1, 7])


def test_heavy_tails_are_not_refused() -> None:
    rng = np.random.default_rng(0)
    data = xr.Dataset({"mu": ((*SAMPLE, "k"), rng.standard_cauchy((4, 2000, 3)) ** 2)})
    relabel.align(data, {"k": "permutation"})


def test_what_is_not_compared_may_hold_anything() -> None:
    data, _ = mixture()
    plain = relabel.align(data, {"k": "permutation"}, criterion=relabel.criteria.Mean())
    beside = data["sd"].copy()
    beside[0, 3, 1], beside[1, 2] = np.nan, -np.inf
    criterion = relabel.criteria.Mean(var_names="mu")
    aligned = relabel.align(data.assign(sd=beside), {"k": "permutation"}, criterion=criterion)
    clean = relabel.align(data, {"k": "permutation"}, criterion=criterion)
    assert_alike(clean, aligned)
    assert_alike(plain, aligned)
    np.testing.assert_array_equal(aligned["relabel_k_margin"], clean["relabel_k_margin"])
    assert "relabel_excluded" not in aligned
    xr.testing.assert_identical(relabel.undo(aligned)["sd"], beside)
    with pytest.raises(DataError, match=r"2 of 60 draws .* chain 0, draw 3; .*; in sd \(2\)"):
        relabel.align(data.assign(sd=beside), {"k": "permutation"})


def test_other_groups_are_not_compared() -> None:
    data, _ = mixture()
    lik = np.full((2, 30, 5, 3), -1.0)
    lik[0, 0, 0] = -np.inf
    lik[0, 1, :, 2] = np.nan
    tree = xr.DataTree.from_dict(
        {
            "posterior": data,
            "log_likelihood": xr.Dataset({"y": ((*SAMPLE, "obs_id", "k"), lik)}),
        }
    )
    aligned = relabel.align(tree, {"k": "permutation"})
    np.testing.assert_array_equal(relabel.undo(aligned)["log_likelihood"]["y"].values, lik)


# ---------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("lazy", [False, True])
def test_the_least_integer_is_refused_where_it_may_flip(dtype: str, lazy: bool) -> None:
    values = np.round(loadings()["lam"] * 10).astype(dtype)
    values[0, 0, 0, 0] = np.iinfo(dtype).min
    data = xr.Dataset({"lam": values.chunk(draw=7) if lazy else values})
    with pytest.raises(DataError, match=f"lam holds -.* does not fit its dtype {dtype}"):
        relabel.align(data, relabel.Spec({"f": "signed"}, {"lam": "_ f"}), nonfinite="skip")
    if dtype != "int64":  # among tens this one drowns all others
        permuted = relabel.align(data, relabel.Spec({"f": "permutation"}, {"lam": "_ f"}))
        xr.testing.assert_identical(relabel.undo(permuted)["lam"].compute(), values)


@pytest.mark.parametrize("dtype", ["float16", "float32", "longdouble", "int8", "int64"])
def test_dtypes_that_flip(dtype: str) -> None:
    values = np.round(loadings()["lam"] * 10).astype(dtype)
    spec = relabel.Spec({"f": "signed"}, {"lam": "_ f"})
    aligned = relabel.align(xr.Dataset({"lam": values}), spec)
    wide = relabel.align(xr.Dataset({"lam": values.astype(float)}), spec)
    assert_alike(aligned, wide)
    assert aligned["lam"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(aligned["lam"].astype(float), wide["lam"])
    xr.testing.assert_identical(relabel.undo(aligned)["lam"], values)


@pytest.mark.parametrize("dtype", ["complex128", "object", "uint8", "bool"])
def test_dtypes_that_cannot_flip_are_refused(dtype: str) -> None:
    data = np.abs(np.round(loadings() * 10)).astype(dtype)
    with pytest.raises(DataError, match=rf"'lam' has the dtype {dtype}"):
        relabel.align(data, relabel.Spec({"f": "signed"}, {"lam": "_ f"}))


def test_scales_that_a_dtype_does_not_hold_are_refused() -> None:
    rng = np.random.default_rng(0)
    net = xr.Dataset(
        {
            "W1": ((*SAMPLE, "x", "h"), rng.normal(size=(1, 8, 2, 3)) * 1e-7),
            "W2": ((*SAMPLE, "h", "y"), rng.normal(size=(1, 8, 3, 1)) * 1e4),
        }
    ).astype("float16")
    spec = relabel.Spec({"h": "relu"}, {"W1": "x -> h", "W2": "h -> y"})
    with pytest.raises(DataError, match="dtype float16 does not hold"):
        relabel.align(net, spec)
