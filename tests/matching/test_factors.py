"""Factor models: the orthogonal group, varimax gauges, and the criteria that compare loadings."""

import itertools

import numpy as np
import pytest
import xarray as xr
from files import RECORDED
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import rngs
from typer.testing import CliRunner

import relabel
from relabel import Spec
from relabel.cli.app import app
from relabel.criteria import RSP, MatchAlign, Mean, Procrustes, ToReference, WeightedProcrustes
from relabel.data.provenance import Provenance
from relabel.diagnostics.kernels.quantities import invariants
from relabel.errors import DataError, SpecError
from relabel.groups import GreedySigned, SignedPermutation
from relabel.matching.criteria.base import unary_distance
from relabel.matching.criteria.wprocrustes import item_weights
from relabel.matching.features import MatchingRule, Problem
from relabel.matching.solve import solve
from relabel.numerics.rotations import varimax

GOLDEN = np.load(RECORDED / "golden" / "fs_synth_sp_q5.npz")
SAMPLE = ("chain", "draw")
AXES = {"Lambda": "item factor", "eta": "obs factor", "Phi": "factor factor"}
ROTATES = Spec({"factor": "orthogonal"}, AXES)
SIGNED = Spec({"factor": "signed"}, AXES)
ALL = [
    RSP(),
    RSP(rotation="varimax-kaiser", reference="draw"),
    RSP(rotation="none"),
    Procrustes(),
    Procrustes(final="none", reference="both"),
    WeightedProcrustes(),
    MatchAlign(),
    MatchAlign(reference=3, matching="assignment"),
    Mean(var_names="Lambda"),
]
named = pytest.mark.parametrize("criterion", ALL, ids=repr)


def rotations(rng, *batch, size):
    return np.linalg.qr(rng.normal(size=(*batch, size, size)))[0]


def model(rng, chains=2, draws=15, items=10, factors=3, *, noise=0.05, turn=None):
    """Draws of loadings, scores (float32) and factor covariances, each in its own orientation."""
    batch = (chains, draws)
    centre = rng.normal(size=(items, factors)) * (rng.random((items, factors)) < 0.6)
    loadings = centre + noise * rng.normal(size=(*batch, items, factors))
    scores = rng.normal(size=(*batch, 7, factors))
    root = rng.normal(size=(*batch, factors, factors))
    turn = rotations(rng, *batch, size=factors) if turn is None else turn
    return dataset(
        loadings @ turn,
        eta=(scores @ turn).astype(np.float32),
        Phi=turn.swapaxes(-1, -2) @ (root @ root.swapaxes(-1, -2)) @ turn,
    )


def dataset(loadings, **others):
    dims = {"Lambda": ("item", "factor"), "eta": ("obs", "factor"), "Phi": ("factor", "factor_too")}
    arrays = {"Lambda": loadings, **others}
    return xr.Dataset({n: ((*SAMPLE, *dims[n]), v) for n, v in arrays.items()})


def moved(draws, turn):
    """The same draws with every draw turned: Lambda G', eta G', G Phi G'."""
    back = turn.swapaxes(-1, -2)
    return dataset(
        draws["Lambda"].values @ back,
        eta=(draws["eta"].values @ back).astype(np.float32),
        Phi=turn @ draws["Phi"].values @ back,
    )


def losses(aligned):
    return np.array(json_of(aligned)["losses"])


def json_of(aligned):
    return Provenance.of(aligned).as_dict()


def rotation_of(aligned):
    """The elements as matrices (draws, K, K), however they are stored."""
    if "relabel_factor_rotation" in aligned:
        return aligned["relabel_factor_rotation"].values
    index, factor = (aligned[f"relabel_factor_{k}"].values for k in ("index", "factor"))
    return np.eye(index.shape[-1])[index] * factor[..., None]


def close(one, two, tolerance):
    for name in one.data_vars:
        assert one[name].dtype == two[name].dtype
        size = float(np.abs(two[name]).max())
        allowed = max(tolerance, 3e-6 if one[name].dtype == np.float32 else 0)
        np.testing.assert_allclose(one[name], two[name], rtol=0, atol=allowed * size)


# ---------------------------------------------------------------------- laws


@named
def test_invariance_and_undo(criterion):
    draws = model(np.random.default_rng(0))
    aligned = relabel.align(draws, ROTATES, criterion=criterion)
    old, new = draws["Lambda"].values, aligned["Lambda"].values
    scale = np.abs(old).max() ** 2
    np.testing.assert_allclose(
        new @ new.swapaxes(-1, -2), old @ old.swapaxes(-1, -2), rtol=0, atol=1e-12 * scale
    )
    g = rotation_of(aligned)
    np.testing.assert_allclose(g @ g.swapaxes(-1, -2), np.eye(3) + 0 * g, atol=1e-12)
    np.testing.assert_allclose(new, old @ g.swapaxes(-1, -2), rtol=0, atol=1e-12)
    phi = draws["Phi"].values
    np.testing.assert_allclose(
        aligned["Phi"].values, g @ phi @ g.swapaxes(-1, -2), rtol=0, atol=1e-12 * np.abs(phi).max()
    )
    fit = old @ draws["eta"].values.swapaxes(-1, -2)
    np.testing.assert_allclose(
        new @ aligned["eta"].values.swapaxes(-1, -2), fit, rtol=0, atol=3e-6 * np.abs(fit).max()
    )
    assert aligned["eta"].dtype == np.float32
    close(relabel.undo(aligned), draws, 1e-13)


@named
def test_aligned_draws_stay_as_they_are(criterion):
    once = relabel.align(model(np.random.default_rng(1)), ROTATES, criterion=criterion)
    twice = relabel.align(once, ROTATES, criterion=criterion)
    tolerance = 1e-6 if isinstance(criterion, WeightedProcrustes) else 1e-9
    close(twice.drop_vars([n for n in twice if "relabel" in n]), once[list(AXES)], tolerance)
    np.testing.assert_allclose(rotation_of(twice), rotation_of(once), atol=tolerance)
    close(relabel.undo(twice), model(np.random.default_rng(1)), 1e-12)


@given(st.integers(2, 4), st.sampled_from(["varimax", "varimax-kaiser", "none"]), rngs)
@settings(max_examples=15, deadline=None)
def test_equivariance_given_a_reference(factors, gauge, rng):
    draws = model(rng, chains=1, draws=6, factors=factors)
    point = draws.isel(chain=0, draw=0, drop=True)
    spec = Spec(ROTATES.units, AXES, gauges={"factor": gauge})
    criterion = ToReference(point, var_names="Lambda", scale="none")
    one = relabel.align(draws, spec, criterion=criterion)
    turn = rotations(rng, 1, 6, size=factors)
    if gauge != "none":  # a local maximum of varimax depends on where it starts
        turn = np.eye(factors)[rng.permuted(np.tile(np.arange(factors), (1, 6, 1)), axis=2)]
        turn = turn * rng.choice([-1.0, 1.0], size=(1, 6, factors, 1))
    two = relabel.align(moved(draws, turn), spec, criterion=criterion)
    close(two[list(AXES)], one[list(AXES)], 1e-6)


@named
def test_the_loss_never_rises(criterion):
    rng = np.random.default_rng(2)
    draws = dataset(rng.normal(size=(2, 30, 8, 4)), **other_arrays(rng, (2, 30), 4))
    trace = losses(relabel.align(draws, ROTATES, criterion=criterion))
    if criterion.monotone:
        assert (np.diff(trace) <= 1e-9 * trace[:-1]).all()


def other_arrays(rng, batch, factors):
    eta = rng.normal(size=(*batch, 4, factors)).astype(np.float32)
    return {"eta": eta, "Phi": rng.normal(size=(*batch, factors, factors))}


@pytest.mark.parametrize("factors", [1, 2, 3, 4])
def test_signed_permutations_by_brute_force(factors):
    """No other signs and labels of any draw bring it nearer to the mean."""
    rng = np.random.default_rng(factors)
    draws = dataset(rng.normal(size=(1, 6, 5, factors)))
    spec = Spec({"factor": "orthogonal"}, {"Lambda": "item factor"})
    for criterion in (RSP(), RSP(rotation="none")):
        aligned = relabel.align(draws, spec, criterion=criterion)
        values = aligned["Lambda"].values[0]
        mean = values.mean(axis=0)
        best = np.full(6, np.inf)
        for order in itertools.permutations(range(factors)):
            for signs in itertools.product((1, -1), repeat=factors):
                other = values[:, :, list(order)] * np.array(signs)
                best = np.minimum(best, ((other - mean) ** 2).sum(axis=(1, 2)))
        np.testing.assert_allclose(((values - mean) ** 2).sum(axis=(1, 2)), best, rtol=1e-9)
        np.testing.assert_allclose(aligned["relabel_loss"].values[0], best, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("factors", [1, 2, 4])
def test_no_rotation_is_nearer_than_that_of_procrustes(factors):
    rng = np.random.default_rng(factors)
    draws = dataset(rng.normal(size=(1, 6, 5, factors)))
    spec = Spec({"factor": "orthogonal"}, {"Lambda": "item factor"})
    aligned = relabel.align(draws, spec, criterion=Procrustes())
    values = aligned["Lambda"].values[0]
    mean = values.mean(axis=0)
    for draw in values:
        product = mean.T @ draw  # symmetric and positive at the optimum
        np.testing.assert_allclose(product, product.T, atol=1e-5 * np.abs(product).max())
        assert (np.linalg.eigvalsh(product) > -1e-6).all()
    np.testing.assert_allclose(varimax(mean[None])[0], np.eye(factors), atol=1e-7)


@pytest.mark.parametrize("criterion", [RSP(), Procrustes()], ids=repr)
@pytest.mark.parametrize("chunks", [{"draw": 4}, {"item": 3, "chain": 1}])
def test_lazy_is_eager(criterion, chunks):
    draws = model(np.random.default_rng(3))
    lazy = relabel.align(draws.chunk(chunks), ROTATES, criterion=criterion)
    assert lazy["eta"].chunks is not None
    eager = relabel.align(draws, ROTATES, criterion=criterion)
    assert lazy.compute().identical(eager)


def test_planted_orientations_are_found():
    rng = np.random.default_rng(4)
    draws = model(rng, turn=np.eye(3), noise=0.02)
    turned = moved(draws, rotations(rng, 2, 15, size=3))
    for criterion in ALL:
        if criterion != RSP(rotation="none"):
            spread = relabel.align(turned, ROTATES, criterion=criterion)["Lambda"].std(SAMPLE)
            assert float(spread.max()) < 0.1


# ---------------------------------------------------------------------- R's results


def golden(name, symmetry, criterion):
    spec = Spec({"factor": symmetry}, {"Lambda": "item factor"})
    aligned = relabel.align(dataset(GOLDEN[name][None]), spec, criterion=criterion)
    return aligned, aligned["Lambda"].values[0], losses(aligned)


@pytest.mark.parametrize(
    ("source", "kind"),
    [("varimax_raw_loadings", "rsp_exact"), ("in_lambda", "rsp_exact_norot")],
)
def test_rsp_of_r(source, kind):
    """From the same start, on the columns as R rotated them: signs, labels, every objective."""
    criterion = RSP(rotation="none", reference="labels")
    aligned, values, trace = golden(source, "signed", criterion)
    assert np.array_equal(aligned["relabel_factor_index"][0], GOLDEN[f"{kind}_perm"])
    assert np.array_equal(aligned["relabel_factor_factor"][0], GOLDEN[f"{kind}_sign"])
    np.testing.assert_allclose(values, GOLDEN[f"{kind}_lambda"], atol=1e-12)
    theirs = GOLDEN[f"{kind}_objective"]
    np.testing.assert_allclose(trace, theirs[1 : 1 + len(trace)], rtol=1e-9)
    np.testing.assert_allclose(theirs[1 + len(trace) :], trace[-1])


def test_rsp_does_not_stop_where_r_stops():
    """R ends at 3600.3 with its rotated columns; its annealing has reached 3594.7."""
    assert golden("varimax_raw_loadings", "signed", RSP(rotation="none"))[2][-1] < 3594.6
    assert golden("in_lambda", "orthogonal", RSP())[2][-1] < 3594.6
    spec = Spec({"factor": "orthogonal"}, {"Lambda": "item factor"})
    draws = dataset(GOLDEN["in_lambda"][None])
    assert losses(relabel.align(draws, spec, criterion=RSP(), n_first=10))[-1] < 3575


def up_to_rotation(values, other):
    """Turn all draws by the one rotation that brings their mean nearest to that of others."""
    left, _, right = np.linalg.svd(values.mean(axis=0).T @ other.mean(axis=0))
    return values @ (left @ right)


def test_greedy_choices_are_kept_where_labels_as_they_came_are_nearer():
    """Slot 0 (at 1) takes 1.4, and leaves 0 to slot 1 (at 2)."""
    draws = dataset(np.array([[[[1.0, 2.0]], [[0.0, 1.4]]]]))
    resolved = Spec({"factor": "signed"}, {"Lambda": "item factor"}).bind(draws)
    arrays = {"Lambda": draws["Lambda"].values[0]}
    indices = []
    for group in (GreedySigned(), SignedPermutation()):
        problem = Problem(resolved, arrays, ["Lambda"], rules={"factor": MatchingRule(group)})
        found = solve(problem, MatchAlign(variable="Lambda"), problem.draw(0))
        indices.append(found.elements["factor"].index.tolist())
    assert indices == [[[0, 1], [1, 0]], [[0, 1], [0, 1]]]


def test_procrustes_of_r():
    _, values, trace = golden("in_lambda", "orthogonal", Procrustes(reference="labels"))
    theirs = GOLDEN["procrustes_objective"][1:]
    np.testing.assert_allclose(trace[: len(theirs)], theirs, rtol=1e-9)
    other = GOLDEN["procrustes_lambda"]
    np.testing.assert_allclose(up_to_rotation(values, other), other, atol=1e-4)


def test_weighted_procrustes_of_r():
    criterion = WeightedProcrustes(reference="labels", spread="drawn")
    _, values, _ = golden("in_lambda", "orthogonal", criterion)
    other = GOLDEN["wprocrustes_lambda"]
    np.testing.assert_allclose(up_to_rotation(values, other), other, atol=5e-4)
    unlike = golden("in_lambda", "orthogonal", WeightedProcrustes())[1]
    assert np.abs(up_to_rotation(unlike, other) - other).max() > 0.1


def test_weights_are_inverse_determinants():
    rng = np.random.default_rng(5)
    moments = np.stack([np.cov(s * rng.normal(size=(3, 40))) for s in (0.1, 1.0, 1.0, 5.0)])
    weights = item_weights(moments)
    expected = np.linalg.det(moments) ** (-1 / 3)
    np.testing.assert_allclose(weights, expected / np.exp(np.log(expected).mean()), rtol=1e-6)
    still = item_weights(np.concatenate([moments, np.zeros((1, 3, 3))]))
    np.testing.assert_allclose(still, [*weights, 1.0])


def test_matchalign_of_r():
    """Greedy choices of the pivot's columns in turn, on the columns as R rotated them."""
    rotated, pivot = GOLDEN["varimax_kaiser_loadings"], int(GOLDEN["jointrot_pivot_index"][0])
    features = rotated.swapaxes(1, 2)
    signed, weight = np.ones(features.shape[2], bool), np.ones(features.shape[2])
    score = unary_distance(features, signed, features[pivot], weight)
    found = GreedySigned().match(score)
    assert np.array_equal(found.index, GOLDEN["jointrot_perm"])
    assert np.array_equal(found.factor, GOLDEN["jointrot_sign"])
    assert not np.array_equal(found.index, SignedPermutation().match(score).index)
    aligned = golden("varimax_kaiser_loadings", "orthogonal", MatchAlign())[0]
    largest = np.abs(rotation_of(aligned)[0]).argmax(axis=2)  # R's rotations are rough
    assert (largest == GOLDEN["jointrot_perm"]).all(axis=1).mean() > 0.9
    aligned, values, _ = golden("in_lambda", "orthogonal", MatchAlign())
    loss = aligned["relabel_loss"].values[0]
    assert loss.argmin() == pivot
    assert loss[pivot] < 1e-12
    mean = values.mean(axis=0)
    better = golden("in_lambda", "orthogonal", RSP())[1]
    assert ((better - better.mean(axis=0)) ** 2).sum() < ((values - mean) ** 2).sum()


# ---------------------------------------------------------------------- pivots and gauges


def test_pivot_by_number_and_by_coordinates():
    draws = model(np.random.default_rng(6))
    one = relabel.align(draws, ROTATES, criterion=MatchAlign(reference=17))
    criterion = MatchAlign(reference={"chain": 1, "draw": 2})
    two = relabel.align(draws, ROTATES, criterion=criterion)
    assert np.array_equal(one["Lambda"], two["Lambda"])
    assert float(one["relabel_loss"][1, 2]) < 1e-12
    with pytest.raises(SpecError, match="draw 30 does not exist"):
        relabel.align(draws, ROTATES, criterion=MatchAlign(reference=30))
    with pytest.raises(SpecError, match="criterion matchalign: there is no draw 15"):
        relabel.align(draws, ROTATES, criterion=MatchAlign(reference={"chain": 1, "draw": 15}))


def test_the_gauge_of_the_spec_decides_for_other_criteria():
    draws = model(np.random.default_rng(7))
    found = {}
    for gauge in ("varimax", "varimax-kaiser", "none"):
        spec = Spec(ROTATES.units, AXES, gauges={"factor": gauge})
        criterion = Mean(var_names="Lambda", scale="none")
        found[gauge] = relabel.align(draws, spec, criterion=criterion)["Lambda"].values
        assert Spec.from_toml(spec.to_toml()) == spec
    rotated = found["varimax"].reshape(-1, 10, 3)
    np.testing.assert_allclose(varimax(rotated), np.eye(3) + np.zeros((30, 3, 3)), atol=1e-9)
    loss = {k: ((v - v.mean((0, 1))) ** 2).sum() for k, v in found.items()}
    assert loss["none"] < min(loss["varimax"], loss["varimax-kaiser"])
    assert loss["varimax"] != loss["varimax-kaiser"]


def test_covariances_take_part_under_varimax_and_not_under_rotation():
    rng = np.random.default_rng(8)
    draws = model(rng)
    aligned = relabel.align(draws, ROTATES, criterion=Mean(var_names=("Lambda", "Phi")))
    close(relabel.undo(aligned), draws, 1e-12)
    spec = Spec(ROTATES.units, AXES, gauges={"factor": "none"})
    with pytest.raises(SpecError, match="'Phi' has two axes of units"):
        relabel.align(draws, spec, criterion=Mean(var_names=("Lambda", "Phi")))


# ---------------------------------------------------------------------- the record


@pytest.mark.parametrize("criterion", [RSP(), Procrustes(), RSP(rotation="none")], ids=repr)
@pytest.mark.parametrize("kind", ["netcdf", "zarr"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_files(tmp_path, criterion, kind):
    draws = model(np.random.default_rng(9))
    tree = xr.DataTree.from_dict({"posterior": draws})
    aligned = relabel.align(tree, ROTATES, criterion=criterion)
    path = tmp_path / ("a.nc" if kind == "netcdf" else "a.zarr")
    relabel.save(aligned, path)
    back = relabel.open_draws(path)
    again = relabel.align(back, ROTATES, criterion=criterion)
    close(again["posterior"].to_dataset(), aligned["posterior"].to_dataset(), 1e-9)
    close(relabel.undo(back)["posterior"].to_dataset().load(), draws, 1e-12)


def test_another_alignment_composes():
    draws = model(np.random.default_rng(10))
    aligned = draws
    for criterion in (RSP(rotation="none"), RSP(), Procrustes(), MatchAlign()):
        aligned = relabel.align(aligned, ROTATES, criterion=criterion)
    assert "relabel_factor_index" not in aligned
    close(relabel.undo(aligned), draws, 1e-12)


def test_elements_apply_to_other_variables():
    draws = model(np.random.default_rng(11))
    aligned = relabel.align(
        draws[["Lambda"]], Spec(ROTATES.units, {"Lambda": AXES["Lambda"]}), criterion=RSP()
    )
    scores = relabel.apply(draws[["eta"]], aligned, spec=Spec(ROTATES.units, {"eta": AXES["eta"]}))
    g = rotation_of(aligned)
    expected = draws["eta"].values @ g.swapaxes(-1, -2)
    np.testing.assert_allclose(scores["eta"], expected, atol=1e-5)


def test_a_damaged_rotation_is_refused():
    aligned = relabel.align(model(np.random.default_rng(12)), ROTATES, criterion=RSP())
    damaged = aligned.copy(deep=True)
    damaged["relabel_factor_rotation"].values[0, 3] *= 1.01
    with pytest.raises(DataError, match="not orthogonal"):
        relabel.undo(damaged)


def test_warnings_say_what_rotations_preserve():
    aligned = relabel.align(model(np.random.default_rng(13)), ROTATES, criterion=RSP())
    assert any("isotropic" in line for line in json_of(aligned)["warnings"])
    assert json_of(aligned)["criterion"]["variable"] == "Lambda"


@pytest.mark.parametrize("criterion", [RSP(), Procrustes(), MatchAlign()], ids=repr)
def test_diagnosis(criterion):
    rng = np.random.default_rng(14)
    draws = model(rng, chains=4, draws=20, noise=0.03)
    aligned = relabel.align(draws, ROTATES, criterion=criterion)
    data, diagnosis = relabel.diagnose(aligned)
    assert diagnosis.labels_trustworthy
    numbers = diagnosis.numbers
    assert numbers["variance_explained"] > numbers["variance_explained_null"] + 0.1
    assert any("continuum" in f.message for f in diagnosis.findings)
    assert len(diagnosis.numbers["modes"]) == 1
    close(relabel.undo(data), draws, 1e-12)


def test_noise_is_not_believed():
    noise = dataset(np.random.default_rng(14).normal(size=(4, 20, 10, 3)))
    spec = Spec(ROTATES.units, {"Lambda": "item factor"})
    aligned = relabel.align(noise, spec, criterion=Procrustes())
    assert not relabel.diagnose(aligned)[1].labels_trustworthy


def test_two_modes_are_told_apart():
    rng = np.random.default_rng(15)
    one, two = (rng.normal(size=(8, 3)) for _ in range(2))
    centre = np.stack([one, one, two, two])[:, None]
    loadings = centre + 0.05 * rng.normal(size=(4, 20, 8, 3))
    draws = dataset(loadings @ rotations(rng, 4, 20, size=3))
    spec = Spec(ROTATES.units, {"Lambda": "item factor"})
    for criterion in (RSP(), Procrustes()):
        diagnosis = relabel.diagnose(relabel.align(draws, spec, criterion=criterion))[1]
        assert len(diagnosis.numbers["modes"]) == 2


@pytest.mark.parametrize("criterion", [RSP(), Procrustes()], ids=repr)
def test_the_warm_up_follows(criterion):
    rng = np.random.default_rng(23)
    draws = model(rng, draws=30)
    early, late = draws.isel(draw=slice(0, 12)), draws.isel(draw=slice(12, None))
    tree = xr.DataTree.from_dict({"posterior": late, "warmup_posterior": early})
    aligned = relabel.align(tree, ROTATES, criterion=criterion)
    means = [aligned[g]["Lambda"].values.mean((0, 1)) for g in ("posterior", "warmup_posterior")]
    np.testing.assert_allclose(means[0], means[1], atol=0.1)
    undone = relabel.undo(aligned)
    close(undone["warmup_posterior"].to_dataset(), early, 1e-12)


def test_invariants_do_not_depend_on_the_rotation():
    rng = np.random.default_rng(24)
    draws = model(rng)
    found = []
    for some in (draws, moved(draws, rotations(rng, 2, 15, size=3))):
        resolved = ROTATES.bind(some)
        arrays = {n: v.values.reshape(30, *v.shape[2:]) for n, v in some.data_vars.items()}
        rules = Procrustes(variable="Lambda").rules(resolved)
        problem = Problem(resolved, arrays, ["Lambda"], rules=rules)
        found.append(invariants(problem, problem.layout)["factor"])
    np.testing.assert_allclose(*found, atol=1e-12)
    assert found[0].shape[1] > 20


# ---------------------------------------------------------------------- bad input


@named
@pytest.mark.parametrize(
    "shape", [(1, 1, 6, 3), (1, 5, 6, 1), (2, 4, 2, 4), (1, 4, 1, 2), (1, 3, 1, 1), (2, 6, 5, 3)]
)
def test_shapes_at_the_edge(criterion, shape):
    rng = np.random.default_rng(16)
    if isinstance(criterion, MatchAlign) and criterion.reference == 3:
        criterion = MatchAlign(reference=0, matching="assignment")
    loadings = rng.normal(size=shape)
    if shape == (2, 6, 5, 3):  # columns and rows of zeros: fewer active factors in some draws
        loadings[0, :3, :, 1] = 0
        loadings[1, 2] = 0
        loadings[:, :, 4] = 0
    draws = dataset(loadings, **other_arrays(rng, shape[:2], shape[3]))
    aligned = relabel.align(draws, ROTATES, criterion=criterion)
    close(relabel.undo(aligned), draws, 1e-12)
    np.testing.assert_allclose(
        (aligned["Lambda"].values ** 2).sum((2, 3)), (loadings**2).sum((2, 3)), rtol=1e-12
    )


def test_factors_that_are_not_active_stay_zero():
    rng = np.random.default_rng(17)
    draws = model(rng, turn=np.eye(3))
    loadings = draws["Lambda"].values.copy()
    loadings[:, ::2, :, 1] = 0.0
    few = draws.assign(Lambda=(draws["Lambda"].dims, loadings))
    for criterion in (RSP(), MatchAlign()):
        aligned = relabel.align(few, ROTATES, criterion=criterion)["Lambda"].values
        assert ((aligned == 0).all(axis=2).sum(axis=2)[:, ::2] == 1).all()
        assert not (aligned == 0).all(axis=2)[:, 1::2].any()


@pytest.mark.parametrize("criterion", [RSP(), Procrustes(), MatchAlign()], ids=repr)
def test_draws_that_are_not_finite(criterion):
    draws = model(np.random.default_rng(18))
    draws["Lambda"][0, 4, 2, 1] = np.nan
    with pytest.raises(DataError, match="NaN"):
        relabel.align(draws, ROTATES, criterion=criterion)
    aligned = relabel.align(draws, ROTATES, criterion=criterion, nonfinite="skip")
    assert np.array_equal(aligned["Lambda"][0, 4], draws["Lambda"][0, 4], equal_nan=True)
    g = rotation_of(aligned)
    assert np.array_equal(g[0, 4], np.eye(3))
    rest = aligned["Lambda"].values[1]
    assert np.abs(rest - rest.mean(axis=0)).max() < 0.6


@pytest.mark.parametrize(
    ("criterion", "symmetry", "message"),
    [
        (RSP(), "signed", "'orthogonal', or set rotation='none'"),
        (Procrustes(), "signed", "use rsp with rotation='none'"),
        (MatchAlign(), "signed", "use rsp with rotation='none'"),
        (RSP(), "permutation", "declare them 'orthogonal' or 'signed'"),
        (RSP(), "relu", "need an arrow"),
        (RSP(variable="psi"), "orthogonal", "'psi' carries no units.*there are Lambda, eta, Phi"),
        (RSP(variable="Phi"), "orthogonal", "there are Lambda, eta"),
    ],
)
def test_specs_that_do_not_fit(criterion, symmetry, message):
    draws = model(np.random.default_rng(19))
    with pytest.raises(SpecError, match=message):
        relabel.align(draws, Spec({"factor": symmetry}, AXES), criterion=criterion)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"axes": AXES | {"tau": "factor^0"}}, "rotate mix"),
        ({"axes": AXES | {"tau": "factor^2"}}, "rotate mix"),
        ({"axes": AXES}, "'tau' shares the dimension 'factor'.*'...' for what is left alone"),
        ({}, "'tau' has the dimension 'factor' and is never negative.*signed"),
        ({"values": {"z": "factor"}}, "rotate and mix"),
        ({"gauges": {"factor": "unit"}}, "choose from varimax, varimax-kaiser, none"),
    ],
)
def test_what_cannot_follow_a_rotation(tables, message):
    draws = model(np.random.default_rng(20))
    draws["tau"] = ((*SAMPLE, "factor"), np.ones((2, 15, 3)))
    with pytest.raises(SpecError, match=message):
        relabel.align(draws, Spec({"factor": "rotation"}, **tables), criterion=RSP())


def test_two_sets_of_factors():
    rng = np.random.default_rng(27)
    draws = xr.Dataset(
        {
            "A": ((*SAMPLE, "item", "f"), rng.normal(size=(1, 9, 5, 2))),
            "B": ((*SAMPLE, "item", "g"), rng.normal(size=(1, 9, 5, 3))),
        }
    )
    spec = Spec({"f": "orthogonal", "g": "signed"}, {"A": "item f", "B": "item g"})
    with pytest.raises(SpecError, match="one set of factors, and the units are f, g: use mean"):
        relabel.align(draws, spec, criterion=RSP(variable="A"))
    assert [run.name for run in relabel.compare(draws, spec).runs] == ["normal", "mean"]


def test_the_loadings_are_found_or_asked_for():
    draws = model(np.random.default_rng(21)).rename(Lambda="A", eta="B")
    spec = Spec(ROTATES.units, {"A": "item factor", "B": "obs factor", "Phi": "..."})
    with pytest.raises(SpecError, match=r"loadings of 'factor', A, B\? Name it: variable="):
        relabel.align(draws, spec, criterion=RSP())
    with pytest.raises(SpecError, match="which variable holds the loadings"):
        relabel.align(draws, spec)
    chosen = relabel.align(draws, spec, criterion=RSP(variable="posterior/A"))
    named = relabel.align(model(np.random.default_rng(21)), ROTATES, criterion=RSP())
    assert np.array_equal(chosen["A"], named["Lambda"])
    none = Spec({"factor": "orthogonal"}, {"A": "(item factor)"}, sizes={"factor": 3})
    flat = xr.Dataset({"A": ((*SAMPLE, "entry"), np.ones((1, 2, 12)))})
    assert relabel.align(flat, none, criterion=RSP())["A"].shape == (1, 2, 12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RSP(rotation="quartimax"), "rotation must be one of 'varimax'"),
        (lambda: RSP(reference="median"), "reference must be one of"),
        (lambda: RSP(variable=3), "variable must be the name"),
        (lambda: Procrustes(final="kaiser"), "final must be"),
        (lambda: Procrustes(max_sweeps=0), "max_sweeps"),
        (lambda: WeightedProcrustes(spread="none"), "spread must be"),
        (lambda: MatchAlign(reference="mean"), "reference must be 'median'"),
        (lambda: MatchAlign(reference={"chain": 0}), "reference must be 'median'"),
        (lambda: MatchAlign(matching="best"), "matching must be"),
    ],
)
def test_options_that_do_not_fit(build, message):
    with pytest.raises(SpecError, match=message):
        build()


@pytest.mark.parametrize(
    "criterion",
    [
        relabel.criteria.Normal(covariance="full"),
        relabel.criteria.Permutations(index=np.tile(np.arange(3), (2, 15, 1))),
        relabel.criteria.Order(var_names="norm"),
    ],
    ids=lambda criterion: criterion.name,
)
def test_criteria_that_match_no_rotations(criterion):
    spec = Spec(ROTATES.units, {"Lambda": "item factor", "eta": "...", "Phi": "..."})
    draws = model(np.random.default_rng(23))
    free = Spec(spec.units, spec.axes, gauges={"factor": "none"})
    with pytest.raises(SpecError, match=f"{criterion.name} matches no rotations.*varimax"):
        relabel.align(draws, free, criterion=criterion)


def test_elements_apply_to_the_same_symmetry_only():
    draws = model(np.random.default_rng(24))
    for aligned_as, applied_as in (("orthogonal", "signed"), ("signed", "permutation")):
        spec = Spec({"factor": aligned_as}, AXES)
        criterion = RSP() if aligned_as == "orthogonal" else RSP(rotation="none")
        aligned = relabel.align(draws, spec, criterion=criterion)
        other = Spec({"factor": applied_as}, {"eta": "obs factor"})
        with pytest.raises(SpecError, match=f"aligned as '{aligned_as}'.*declares.*'{applied_as}'"):
            relabel.apply(draws[["eta"]], aligned, spec=other)


def test_a_given_point_needs_what_is_compared_only():
    draws = model(np.random.default_rng(25))
    point = draws[["Lambda"]].isel(chain=0, draw=0)
    criterion = ToReference(point, var_names="Lambda")
    whole = ToReference(draws.isel(chain=0, draw=0), var_names="Lambda")
    one, two = (relabel.align(draws, ROTATES, criterion=c) for c in (criterion, whole))
    assert np.array_equal(one["eta"], two["eta"])
    with pytest.raises(SpecError, match="the given point has no variable 'eta'"):
        relabel.align(draws, ROTATES, criterion=ToReference(point))


def test_one_rotation_of_all_draws_is_no_difference():
    """Procrustes leaves all draws 45 degrees away from where varimax puts them."""
    half = np.sqrt(0.5) * np.array([[1.0, -1.0], [1.0, 1.0]])
    centre = np.array([[1.0, 0], [1, 0], [0.8, 0], [0, 1], [0, 0.9], [0, 0.7]])
    noise = 0.05 * np.random.default_rng(26).normal(size=(1, 60, 6, 2))
    draws = dataset((centre + noise) @ half)
    spec = Spec({"factor": "orthogonal"}, {"Lambda": "item factor"})
    found = relabel.compare(draws, spec, [RSP(), Procrustes(final="none")])
    assert found.agreement[0, 1] == 1.0
    usual = relabel.compare(draws, spec)
    assert [run.name for run in usual.runs] == ["rsp", "procrustes", "matchalign"]


def test_command_line(tmp_path):
    """Align, diagnose and undo a file, from beginning to end."""
    draws = model(np.random.default_rng(22), chains=2, draws=30)
    raw, done, back = (tmp_path / name for name in ("raw.nc", "done.nc", "back.nc"))
    xr.DataTree.from_dict({"posterior": draws}).to_netcdf(raw, engine="h5netcdf")
    lines = [part for name, line in AXES.items() for part in ("--axes", f"{name}: {line}")]
    told = ["--units", "factor=orthogonal", "--criterion", "procrustes", "--set", "final=none"]
    run = CliRunner().invoke
    aligned = run(app, ["align", str(raw), "-o", str(done), *told, *lines])
    assert aligned.exit_code == 0, aligned.output
    assert "procrustes (variable=Lambda, final=none" in aligned.output
    diagnosed = run(app, ["diagnose", str(done)])
    assert diagnosed.exit_code == 0, diagnosed.output
    assert "labels can be believed" in diagnosed.output
    assert run(app, ["undo", str(done), "-o", str(back)]).exit_code == 0
    with xr.open_datatree(back, engine="h5netcdf") as tree:
        close(tree["posterior"].to_dataset().load()[list(draws)], draws, 1e-12)
    refused = run(app, ["align", str(raw), "-o", str(done), "--units", "factor=signed", *lines])
    assert refused.exit_code == 2


@pytest.mark.parametrize(("axes", "named"), [("item factor", True), ("item -> factor", False)])
def test_sweeps_without_end_may_be_rotations(axes, named):
    rng = np.random.default_rng(0)
    turned = rng.normal(size=(6, 2)) @ np.linalg.qr(rng.normal(size=(40, 2, 2)))[0]
    draws = xr.Dataset(
        {
            "L": (("chain", "draw", "item", "factor"), turned[None]),
            "out": (("chain", "draw", "factor"), rng.normal(size=(1, 40, 2))),
        }
    )
    lines = {"L": axes, "out": "factor" if named else "factor ->"}
    criterion = relabel.criteria.Mean(max_sweeps=1)
    aligned = relabel.align(draws, Spec({"factor": "signed"}, lines), criterion=criterion)
    warnings = Provenance.of(aligned).warnings
    assert any("not converged" in text for text in warnings)
    told = "rotations of 'factor' may remain"
    assert any(told in text for text in warnings) == named
    (finding,) = [f for f in relabel.diagnose(aligned)[1].findings if f.code == "many-sweeps"]
    assert (told in finding.remedy) == named


@pytest.mark.parametrize("symmetry", ["signed", "orthogonal"])
def test_a_square_variable_may_have_the_factors_on_both_axes(symmetry):
    draws = xr.Dataset(
        {
            "L": ((*SAMPLE, "item", "factor"), np.ones((1, 2, 4, 3))),
            "Phi": ((*SAMPLE, "factor", "factor2"), np.ones((1, 2, 3, 3))),
            "kappa": ((*SAMPLE, "factor", "time"), np.ones((1, 2, 3, 5))),
        }
    )
    spec = Spec({"factor": symmetry}, {"L": "item factor"})
    with pytest.raises(SpecError, match=r"'Phi' shares.*'factor factor' if both axes are of these"):
        spec.bind(draws)
    with pytest.raises(SpecError, match="'kappa' shares") as error:
        spec.bind(draws.drop_vars("Phi"))
    assert "factor factor" not in str(error.value)


# ---------------------------------------------------------------------- optima of varimax


def noisy(seed):
    return model(np.random.default_rng(seed), chains=1, draws=40, items=20, factors=6, noise=0.6)


def by_hand(loadings):
    """The loss of aligned loadings (draws, items, factors) to their mean."""
    return ((loadings - loadings.mean(axis=0)) ** 2).sum()


def test_nearer_optima_never_raise_the_loss_and_may_lower_it():
    lower = 0
    for seed in range(6):
        draws = noisy(seed)
        own, nearest = (
            relabel.align(draws, ROTATES, criterion=RSP(optima=optima))
            for optima in ("own", "nearest")
        )
        ends = [by_hand(found["Lambda"].values[0]) for found in (own, nearest)]
        np.testing.assert_allclose(ends, [losses(own)[-1], losses(nearest)[-1]], rtol=1e-9)
        assert (np.diff(losses(nearest)) <= 1e-9 * losses(nearest)[0]).all()
        assert ends[1] <= ends[0] * (1 + 1e-9)
        lower += ends[1] < 0.9995 * ends[0]
        close(relabel.undo(nearest), draws, 1e-9)
    assert lower >= 2


def test_every_draw_stays_at_an_optimum_of_varimax():
    """Small rotations of any two columns do not raise the variance of the squared loadings."""
    found = relabel.align(noisy(1), ROTATES, criterion=RSP())["Lambda"].values[0]

    def simplicity(loadings):
        return (loadings**2).var(axis=1).sum(axis=-1)

    best = simplicity(found)
    for one, two in itertools.combinations(range(found.shape[-1]), 2):
        for angle in (-1e-3, 1e-3):
            turn = np.eye(found.shape[-1])
            turn[[one, one, two, two], [one, two, one, two]] = (
                np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle),
            )  # fmt: skip
            assert (simplicity(found @ turn) <= best * (1 + 1e-12)).all()
