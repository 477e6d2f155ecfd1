"""Gaussian approximations: read, compared by the Wasserstein distance, transformed exactly."""

import itertools
import json

import numpy as np
import pytest
import xarray as xr
from files import RECORDED
from scipy import linalg

import relabel
from relabel import DataError, SpecError
from relabel.criteria import Wasserstein
from relabel.groups.elements import Monomial
from relabel.numerics.gaussians import barycentre, fidelity, root_of
from relabel.spec.transformation import Transformation

DATA = RECORDED / "sources"
SAMPLE = ("chain", "draw")
N_IN = 2


def shapes(n_units):
    return {"W": (N_IN, n_units), "b": (n_units,), "V": (n_units, 1), "c": (1,)}


def spec_of(symmetry):
    return relabel.Spec({"h": symmetry}, {"W": "x -> h", "b": "-> h", "V": "h -> y", "c": "-> y"})


def matrix_of(index, factor, n_units, tail=lambda f: f):
    """Build the matrix of an element on flat vectors (W, b, V, c)."""
    size = sum(int(np.prod(s)) for s in shapes(n_units).values())
    numbers, start = {}, 0
    for name, shape in shapes(n_units).items():
        numbers[name] = start + np.arange(int(np.prod(shape))).reshape(shape)
        start += int(np.prod(shape))
    matrix = np.zeros((size, size))
    matrix[numbers["c"], numbers["c"]] = 1
    for slot, (unit, f) in enumerate(zip(index, factor, strict=True)):
        for row in range(N_IN):
            matrix[numbers["W"][row, slot], numbers["W"][row, unit]] = f
        matrix[numbers["b"][slot], numbers["b"][unit]] = f
        matrix[numbers["V"][slot], numbers["V"][unit]] = tail(f)
    return matrix


def rows_of_units(n_units):
    """Flat positions of the weights of every unit, shape (K, R)."""
    numbers, start = [], 0
    for name, shape in shapes(n_units).items():
        size = int(np.prod(shape))
        at = start + np.arange(size).reshape(shape)
        if name != "c":
            numbers.append(at.T if name == "W" else at.reshape(n_units, -1))
        start += size
    return np.concatenate(numbers, axis=1)


def members(n_units, n_members, seed=0):
    """Random means and full covariances, flat."""
    rng = np.random.default_rng(seed)
    size = sum(int(np.prod(s)) for s in shapes(n_units).values())
    root = rng.normal(size=(n_members, size, size)) / np.sqrt(size)
    return 0.5 * rng.normal(size=(n_members, size)), root @ root.swapaxes(1, 2)


TAILS = {
    "permutation": lambda f: f,
    "tanh": lambda f: f,
    "cos": abs,
    "relu": lambda f: 1 / f,
}


def whole_group(symmetry, n_units):
    for index in itertools.permutations(range(n_units)):
        signed = symmetry in ("tanh", "cos")
        for factor in itertools.product((1.0, -1.0) if signed else (1.0,), repeat=n_units):
            yield index, factor


def distance(one, two, rows, full):
    """Squared Wasserstein distance of block-diagonal Gaussians, by the textbook's formula."""
    (m1, c1), (m2, c2) = one, two
    total = np.square(m1[rows] - m2[rows]).sum()
    for own in rows:
        a, b = c1[np.ix_(own, own)], c2[np.ix_(own, own)]
        if not full:
            total += np.square(np.sqrt(np.diag(a)) - np.sqrt(np.diag(b))).sum()
        else:
            root = linalg.sqrtm(a).real
            total += np.trace(a + b - 2 * linalg.sqrtm(root @ b @ root).real)
    return total


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize(
    ("symmetry", "n_units"), [("permutation", 4), ("tanh", 3), ("cos", 3), ("permutation", 5)]
)
def test_assignment_is_the_best_of_the_whole_group(symmetry, n_units, full):
    mean, cov = members(n_units, 4 if n_units < 5 else 2)
    tree = relabel.sources.from_gaussian(mean, cov=cov, layout=shapes(n_units))
    criterion = Wasserstein("blocks" if full else "diagonal", reference={"chain": 0, "draw": 0})
    spec = relabel.sources.gaussian_spec(tree, spec_of(symmetry))
    aligned = relabel.align(tree, spec, criterion=criterion)
    rows = rows_of_units(n_units)
    for member in range(1, len(mean)):
        best = np.inf
        for index, factor in whole_group(symmetry, n_units):
            g = matrix_of(index, factor, n_units, TAILS[symmetry])
            moved = (g @ mean[member], g @ cov[member] @ g.T)
            best = min(best, distance((mean[0], cov[0]), moved, rows, full))
        assert aligned["relabel/loss"].values[0, member] == pytest.approx(best, rel=1e-6)
        # and that is the distance of what came out
        flat = np.concatenate([aligned[f"posterior/{n}"].values[0, member].ravel() for n in "WbVc"])
        out = (flat, aligned["posterior/covariance"].values[0, member])
        assert distance((mean[0], cov[0]), out, rows, full) == pytest.approx(best, rel=1e-6)


def total_distance(aligned, n_units, full):
    """Sum of the distances of what came out to its own barycentre."""
    posterior, rows = aligned["posterior"], rows_of_units(n_units)
    n_members = posterior.sizes["draw"]
    flat = np.concatenate([posterior[n].values[0].reshape(n_members, -1) for n in "WbVc"], axis=1)
    cov = posterior["covariance"].values[0]
    middle = np.zeros(cov.shape[1:])
    if full:
        blocks = np.stack([cov[:, own[:, None], own] for own in rows], axis=1)
        for own, block in zip(rows, barycentre(root_of(blocks)), strict=True):
            middle[np.ix_(own, own)] = block
    else:
        sds = np.sqrt(np.einsum("tii->ti", cov))
        np.fill_diagonal(middle, sds.mean(axis=0) ** 2)
    mean = flat.mean(axis=0)
    return sum(distance((m, c), (mean, middle), rows, full) for m, c in zip(flat, cov, strict=True))


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("symmetry", ["permutation", "tanh", "cos", "relu"])
def test_loss_falls_to_the_barycentre(symmetry, full):
    mean, cov = members(4, 8, seed=1)
    tree = relabel.sources.from_gaussian(mean, cov=cov, layout=shapes(4))
    spec = relabel.sources.gaussian_spec(tree, spec_of(symmetry))
    criterion = Wasserstein("blocks" if full else "diagonal")
    aligned = relabel.align(tree, spec, criterion=criterion)
    notes = json.loads(aligned["relabel"].attrs["relabel"])
    losses = notes["losses"]
    assert all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(losses))
    assert losses[-1] < notes["loss_before"]
    assert losses[-1] == pytest.approx(total_distance(aligned, 4, full), rel=1e-6)
    again = relabel.align(aligned, spec, criterion=criterion)
    xr.testing.assert_identical(
        again["relabel"].to_dataset()["h_index"], aligned["relabel"].to_dataset()["h_index"]
    )


@pytest.mark.parametrize("symmetry", ["permutation", "tanh", "cos", "relu"])
def test_covariances_are_transformed_exactly(symmetry):
    n_units, n_members = 4, 5
    mean, cov = members(n_units, n_members, seed=2)
    tree = relabel.sources.from_gaussian(mean, cov=cov, layout=shapes(n_units))
    groups = {"posterior": tree["posterior"].to_dataset()}
    resolved = relabel.sources.gaussian_spec(tree, spec_of(symmetry)).bind(groups)
    rng = np.random.default_rng(3)
    index = np.array([[rng.permutation(n_units) for _ in range(n_members)]])
    factor = np.ones(index.shape)
    if symmetry in ("tanh", "cos"):
        factor = rng.choice([-1.0, 1.0], size=index.shape)
    elif symmetry == "relu":
        factor = rng.uniform(0.2, 5.0, size=index.shape)
    move = Transformation({"h": Monomial(index, factor)})
    out = move.apply(groups, resolved)["posterior"]
    for t in range(n_members):
        g = matrix_of(index[0, t], factor[0, t], n_units, TAILS[symmetry])
        flat = np.concatenate([out[name].values[0, t].ravel() for name in "WbVc"])
        sds = np.concatenate([out[f"{name}_sd"].values[0, t].ravel() for name in "WbVc"])
        exact = g @ cov[t] @ g.T
        if symmetry == "relu":
            np.testing.assert_allclose(flat, g @ mean[t], rtol=1e-12)
            np.testing.assert_allclose(out["covariance"].values[0, t], exact, rtol=1e-12)
        else:
            np.testing.assert_array_equal(flat, g @ mean[t])
            np.testing.assert_array_equal(out["covariance"].values[0, t], exact)
        np.testing.assert_allclose(sds, np.sqrt(np.diag(exact)), rtol=1e-12)
        assert (sds > 0).all()


@pytest.mark.parametrize("symmetry", ["permutation", "tanh", "relu"])
def test_undo(symmetry):
    mean, cov = members(3, 4, seed=4)
    tree = relabel.sources.from_gaussian(mean, cov=cov, layout=shapes(3))
    spec = relabel.sources.gaussian_spec(tree, spec_of(symmetry))
    back = relabel.undo(relabel.align(tree, spec, criterion="wasserstein"))
    if symmetry == "relu":
        xr.testing.assert_allclose(back["posterior"].to_dataset(), tree["posterior"].to_dataset())
    else:
        assert back["posterior"].to_dataset().identical(tree["posterior"].to_dataset())


def test_two_layers_with_weights_between_them():
    """Own features by blocks, the weights between two sets by the diagonal; all elements tried."""
    rng = np.random.default_rng(5)
    layout = {"A": (2, 3), "B": (3, 3), "C": (3, 1)}
    mean = 0.3 * rng.normal(size=(3, 18))
    root = rng.normal(size=(3, 18, 18)) / 4
    cov = root @ root.swapaxes(1, 2)
    tree = relabel.sources.from_gaussian(mean, cov=cov, layout=layout)
    spec = relabel.Spec({"g": "permutation", "h": "permutation"},
                        {"A": "x -> g", "B": "g -> h", "C": "h -> y"})  # fmt: skip
    aligned = relabel.align(
        tree,
        relabel.sources.gaussian_spec(tree, spec),
        criterion=Wasserstein(reference={"chain": 0, "draw": 0}),
    )
    numbers = np.arange(6).reshape(2, 3), 6 + np.arange(9).reshape(3, 3), np.arange(15, 18)
    rows = [*(numbers[0].T), *(numbers[2].reshape(3, 1)), *(numbers[1].reshape(9, 1))]
    for t in (1, 2):
        found = []
        for p in itertools.permutations(range(3)):
            for q in itertools.permutations(range(3)):
                order = np.concatenate(
                    [
                        numbers[0][:, p].ravel(),
                        numbers[1][np.ix_(p, q)].ravel(),
                        numbers[2][list(q)],
                    ]
                )
                moved = mean[t][order], cov[t][np.ix_(order, order)]
                found.append(sum(
                    distance((mean[0], cov[0]), moved, row[None], full=True) for row in rows
                ))  # fmt: skip
        assert aligned["relabel/loss"].values[0, t] == pytest.approx(min(found), rel=1e-6)


@pytest.mark.parametrize("symmetry", ["tanh", "relu"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
def test_planted_labels_are_found(symmetry, full):
    """Members of one Gaussian, each under an element of its own and a little noise; 16 units."""
    n_units, n_members = 16, 6
    rng = np.random.default_rng(6)
    mean, cov = members(n_units, 1, seed=7)
    flat, covs, planted = [], [], []
    for _ in range(n_members):
        index = rng.permutation(n_units)
        factor = rng.choice([-1.0, 1.0], n_units) if symmetry == "tanh" else np.ones(n_units)
        if symmetry == "relu":
            factor = rng.uniform(0.5, 2.0, n_units)
        g = matrix_of(index, factor, n_units, TAILS[symmetry])
        flat.append(g @ (mean[0] + 0.02 * rng.normal(size=mean[0].shape)))
        covs.append(g @ (cov[0] * rng.uniform(0.95, 1.05)) @ g.T)
        planted.append((index, np.sign(factor)))
    tree = relabel.sources.from_gaussian(np.array(flat), cov=np.array(covs), layout=shapes(n_units))
    aligned = relabel.align(
        tree,
        relabel.sources.gaussian_spec(tree, spec_of(symmetry)),
        criterion=Wasserstein("blocks" if full else "diagonal"),
    )
    own = aligned["relabel"]
    first = None
    for t, (index, sign) in enumerate(planted):
        place = own["h_index"].values[0, t]
        total = index[place], np.sign(own["h_factor"].values[0, t]) * sign[place]
        first = total if first is None else first
        np.testing.assert_array_equal(total, first)


def test_standard_deviations_tell_what_means_do_not():
    rng = np.random.default_rng(8)
    sd = np.array([0.1, 0.5, 1.0, 2.0])
    orders = np.array([rng.permutation(4) for _ in range(10)])
    means = {"W": 0.01 * rng.normal(size=(10, 3, 4)), "V": 0.01 * rng.normal(size=(10, 4))}
    sds = {"W": np.tile(sd[orders][:, None], (1, 3, 1)), "V": sd[orders]}
    tree = relabel.sources.from_gaussian(means, sd=sds)
    spec = relabel.sources.gaussian_spec(
        tree, relabel.Spec({"h": "tanh"}, {"W": "x -> h", "V": "h ->"})
    )
    aligned = relabel.align(tree, spec, criterion="wasserstein")
    out = aligned["posterior/V_sd"].values[0]
    np.testing.assert_array_equal(out, np.tile(out[0], (10, 1)))
    barycentre_loss = sum(np.square(m - 0).sum() for m in means.values())
    assert aligned["relabel/loss"].sum() <= barycentre_loss


# ---------------------------------------------------------------------- covariances


def random_covariances(n, size, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, 1, size, size))
    return root @ root.swapaxes(-1, -2)


def test_fidelity_is_the_trace_of_the_textbook():
    a, b = random_covariances(2, 4)[:, 0]
    root = linalg.sqrtm(a).real
    exact = np.trace(linalg.sqrtm(root @ b @ root).real)
    assert fidelity(root_of(a), root_of(b)) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("started", [False, True])
def test_barycentre_solves_its_equation_and_no_neighbour_is_better(started):
    covs = random_covariances(5, 3, seed=1)
    start = random_covariances(1, 3, seed=2)[0] if started else None
    found = barycentre(root_of(covs), start)[0]
    root = linalg.sqrtm(found).real
    exact = np.mean([linalg.sqrtm(root @ c @ root).real for c in covs[:, 0]], axis=0)
    np.testing.assert_allclose(found, exact, atol=1e-9)

    def total(s):
        return sum(np.trace(s) - 2 * fidelity(root_of(s), root_of(c)) for c in covs[:, 0])

    rng = np.random.default_rng(3)
    for _ in range(10):
        step = 1e-3 * rng.normal(size=(3, 3))
        assert total(found) <= total(found + step + step.T)


def test_barycentre_of_singular_covariances():
    covs = random_covariances(4, 3, seed=4)
    covs[..., 2] = covs[..., 2, :] = 0
    found = barycentre(root_of(covs))[0]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:2, :2], barycentre(root_of(covs[..., :2, :2]))[0], rtol=1e-9)


# ---------------------------------------------------------------------- reading


def test_forms_of_means_and_spreads():
    rng = np.random.default_rng(9)
    layout = {"nn/W": (2, 3), "b": (3,)}
    flat, sd = rng.normal(size=(5, 9)), rng.uniform(0.1, 1, size=(5, 9))
    one = relabel.sources.from_gaussian(flat, sd=sd, layout=layout)
    by_name = {"nn/W": flat[:, :6].reshape(5, 2, 3), "b": flat[:, 6:]}
    sds = {"nn/W": sd[:, :6].reshape(5, 2, 3), "b": sd[:, 6:]}
    two = relabel.sources.from_gaussian(by_name, sd=sds)
    three = relabel.sources.from_gaussian(
        [{n: a[t] for n, a in by_name.items()} for t in range(5)],
        sd=[{n: a[t] for n, a in sds.items()} for t in range(5)],
    )
    four = relabel.sources.from_gaussian(flat, var=sd**2, layout=layout)
    assert one["posterior"].to_dataset().identical(two["posterior"].to_dataset())
    assert one["posterior"].to_dataset().identical(three["posterior"].to_dataset())
    xr.testing.assert_allclose(one["posterior"].to_dataset(), four["posterior"].to_dataset())
    assert one["posterior"]["nn.W_sd"].dims == one["posterior"]["nn.W"].dims
    assert one["posterior"]["nn.W"].attrs["source_name"] == "nn/W"
    chains = relabel.sources.from_gaussian(
        flat[None], sd=sd[None], layout=layout, sample_dims="chain draw"
    )
    assert dict(chains["posterior"].sizes)["draw"] == 5


def test_covariances_of_single_variables():
    mean, cov = members(4, 5, seed=10)
    names = {"W": slice(0, 8), "b": slice(8, 12)}
    tree = relabel.sources.from_gaussian(
        {n: mean[:, at].reshape(5, *shapes(4)[n]) for n, at in names.items()}
        | {"V": mean[:, 12:16, None]},
        cov={n: cov[:, at, at] for n, at in names.items()},
        sd={"V": np.sqrt(np.einsum("tii->ti", cov)[:, 12:16, None])},
    )
    assert {"W_cov", "b_cov", "W_sd", "b_sd", "V_sd"} < set(tree["posterior"].data_vars)
    spec = relabel.sources.gaussian_spec(
        tree, relabel.Spec({"h": "tanh"}, {"W": "x -> h", "b": "-> h", "V": "h -> y"})
    )
    assert spec.axes["W_cov"] == "(x -> h) (x -> h)"
    criterion = Wasserstein(reference={"chain": 0, "draw": 0})
    aligned = relabel.align(tree, spec, criterion=criterion)
    block = np.zeros_like(cov)
    for at in names.values():
        block[:, at, at] = cov[:, at, at]
    block[:, range(12, 16), range(12, 16)] = np.einsum("tii->ti", cov)[:, 12:16]
    rows = rows_of_units(4)
    best = min(
        distance((mean[0], block[0]), (g @ mean[1], g @ block[1] @ g.T), rows, full=True)
        for g in (matrix_of(i, f, 4) for i, f in whole_group("tanh", 4))
    )
    assert aligned["relabel/loss"].values[0, 1] == pytest.approx(best, rel=1e-6)


def test_lines_of_companions():
    axes = {
        "W": "h <- x",
        "b": "-> h",
        "K": "o h^0 ...",
        "V": "h->h2",
        "s": "(h x)",
        "posterior/z": "h",
    }
    data = xr.Dataset(
        {n: (SAMPLE, np.zeros((1, 2))) for k in axes
         for n in (k.removeprefix("posterior/"), k.removeprefix("posterior/") + "_sd")}
    )  # fmt: skip
    spec = relabel.sources.gaussian_spec(
        data, relabel.Spec({"h": "permutation", "h2": "permutation"}, axes)
    )
    found = {name: spec.axes[f"{name}_sd"] for name in ("W", "b", "K", "V", "s", "z")}
    assert found == {
        "W": "|h| <- x", "b": "-> |h|", "K": "o h^0 ...", "V": "|h|->|h2|", "s": "(|h| x)",
        "z": "|h|",
    }  # fmt: skip


def test_terms_of_a_covariance():
    means = {"K": np.zeros((4, 3, 2, 5, 5)), "b": np.zeros((4, 3)), "V": np.zeros((4, 1, 3)),
             "log_sigma": np.zeros(4), "c": np.zeros(4)}  # fmt: skip
    size = 150 + 3 + 3 + 2
    tree = relabel.sources.from_gaussian(means, cov=np.tile(np.eye(size), (4, 1, 1)))
    spec = relabel.Spec(
        {"h": "tanh"}, {"K": "h <- i ...", "b": "-> h", "V": "y <- h", "c": "..."}
    )  # fmt: skip
    full = relabel.sources.gaussian_spec(tree, spec)
    term = "(h <- i flat0 flat1 + -> h + y <- h + flat2 + ->)"
    assert full.axes["covariance"] == f"{term} {term}"
    aligned = relabel.align(tree, full, criterion="wasserstein")
    assert aligned["relabel/loss"].sum() == 0


def test_dims_are_the_notation():
    mu = np.array([[-0.5, 5.0], [-5.1, 0.1]])
    tree = relabel.sources.from_gaussian({"mu": mu}, sd={"mu": np.abs(mu)})
    tree = xr.DataTree.from_dict(
        {"posterior": tree["posterior"].to_dataset().rename(mu_dim_0="component")}
    )
    spec = relabel.sources.gaussian_spec(tree, {"component": "signed"})
    assert spec.axes == {"mu": "component", "mu_sd": "|component|"}
    aligned = relabel.align(tree, spec, criterion="wasserstein")
    np.testing.assert_array_equal(aligned["posterior/mu_sd"].values[0, 1], [0.1, 5.1])


@pytest.mark.parametrize("given", ["sd", "cov"])
def test_units_that_flip_affinely_are_refused(given):
    mean, cov = members(3, 2)
    more = {"cov": cov} if given == "cov" else {"sd": np.sqrt(np.einsum("tii->ti", cov))}
    tree = relabel.sources.from_gaussian(mean, layout=shapes(3), **more)
    lines = relabel.sources.gaussian_spec(tree, spec_of("permutation")).axes
    by_hand = relabel.Spec({"h": "sigmoid"}, {n: t for n, t in lines.items() if n != "covariance"})
    with pytest.raises(SpecError, match=r"'h' .sigmoid.*adds outgoing weights .* 'permutation'"):
        relabel.sources.gaussian_spec(tree, spec_of("sigmoid"))
    with pytest.raises(SpecError, match=r"'h' .sigmoid. adds outgoing weights .* 'permutation'"):
        relabel.align(tree, by_hand, criterion="wasserstein")


def test_units_that_rotate_are_refused():
    tree = relabel.sources.from_gaussian({"L": np.ones((4, 5, 2))}, sd={"L": np.ones((4, 5, 2))})
    spec = relabel.Spec({"factor": "orthogonal"}, {"L": "item factor"})
    with pytest.raises(SpecError, match="rotate"):
        relabel.sources.gaussian_spec(tree, spec)
    with pytest.raises(SpecError, match="rotate"):
        relabel.align(tree, spec, criterion="wasserstein")


@pytest.mark.parametrize(
    ("means", "options", "said"),
    [
        (np.zeros((4, 6)), {}, "need a layout"),
        (np.zeros((4, 6)), {"layout": {"W": (2, 2)}}, "the layout has 4"),
        ({"W": np.zeros((4, 2))}, {"layout": {"W": (3,)}}, "disagree about 'W'"),
        ({"W": np.zeros((4, 2))}, {"sd": {"V": np.ones((4, 2))}}, "sd has 'V', and means do not"),
        ({"W": np.zeros((4, 2))}, {"var": {"W": np.ones((4, 3))}}, "var of 'W' has the shape"),
        (
            {"W": np.zeros((4, 2))},
            {"sd": {"W": -np.ones((4, 2))}},
            "must not be negative, and its minimum is -1",
        ),
        ({"W": np.zeros((4, 2))}, {"sd": {}, "var": {}}, "sd or var"),
        ({"W": np.zeros((4, 2))}, {"cov": np.ones((4, 3, 3))}, r"must be \(4, 2, 2\)"),
        (
            {"W": np.zeros((4, 2))},
            {"cov": {"V": np.ones((4, 2, 2))}},
            "cov has 'V', and means do not",
        ),
        (
            {"W": np.zeros((4, 2))},
            {"cov": np.tile([[1, 2], [0, 1.0]], (4, 1, 1))},
            "symmetric in 4",
        ),
        ({"W": np.zeros((4, 2))}, {"cov": np.tile(-np.eye(2), (4, 1, 1))}, "negative variances"),
        (
            {"W": np.zeros((4, 2))},
            {"cov": np.tile(np.eye(2), (4, 1, 1)), "sd": {"W": np.ones((4, 2))}},
            "'W_sd' is given, and follows",
        ),
        (
            {"W": np.zeros((4, 2)), "W_sd": np.zeros((4, 2))},
            {"sd": {"W": np.ones((4, 2))}},
            "a mean is named 'W_sd'",
        ),
        ({"W": np.zeros((4, 2), np.float16)}, {}, "float16"),
        ([{"W": np.zeros(2)}, {"V": np.zeros(2)}], {}, "member 1 lacks 'W'"),
    ],
)
def test_what_is_no_gaussian_is_refused(means, options, said):
    with pytest.raises(DataError, match=said):
        relabel.sources.from_gaussian(means, **options)


def test_what_the_criterion_refuses():
    mean, cov = members(3, 4)
    tree = relabel.sources.from_gaussian(mean, cov=cov, layout=shapes(3))
    plain = spec_of("permutation")
    with pytest.raises(SpecError, match=r"'covariance' follows its units; .*gaussian_spec"):
        relabel.align(tree, plain, criterion="wasserstein")
    spec = relabel.sources.gaussian_spec(tree, plain)
    bad = tree.copy(deep=True)
    bad["posterior"]["covariance"].values[0, 2, 0, 3] = 9.0
    bad["posterior"]["covariance"].values[0, 2, 3, 0] = 9.0
    bad["posterior"]["covariance"].values[0, 2, 6, 0] = 9.0
    bad["posterior"]["covariance"].values[0, 2, 0, 6] = 9.0
    with pytest.raises(DataError, match=r"negative eigenvalue, .* in member 2"):
        relabel.align(bad, spec, criterion="wasserstein")
    relabel.align(bad, spec, criterion=Wasserstein("diagonal"))  # it is not looked at
    bare = tree.copy(deep=True)
    del bare["posterior"]["covariance"].attrs["layout"]
    with pytest.raises(DataError, match="attribute 'layout'"):
        relabel.align(bare, spec, criterion="wasserstein")
    for options in ({"covariance": "full"}, {"reference": "map"}, {"max_sweeps": 0}):
        with pytest.raises(SpecError, match="criterion wasserstein"):
            Wasserstein(**options)


def test_diagnose_and_files(tmp_path):
    mean, cov = members(3, 30, seed=11)
    tree = relabel.sources.from_gaussian(mean, cov=cov, layout=shapes(3))
    spec = relabel.sources.gaussian_spec(tree, spec_of("tanh"))
    relabel.save(tree, tmp_path / "fits.nc")
    with relabel.open_draws(tmp_path / "fits.nc") as opened:
        aligned = relabel.align(opened, spec, criterion="wasserstein")
        direct = relabel.align(tree, spec, criterion="wasserstein")
        np.testing.assert_array_equal(
            aligned["posterior/covariance"].values, direct["posterior/covariance"].values
        )
    assert relabel.diagnose(direct) is not None


@pytest.mark.parametrize("kind", ["normal", "laplace"])
def test_recorded_fits_of_numpyro(kind):
    """Three fits of one network: all of them in one mode, under other labels and signs."""
    layout = {"V": (3, 1), "W": (2, 3), "b": (3,), "c": (1,)}
    with np.load(DATA / "gaussian_fits.npz") as stored:
        fits = dict(stored)
    if kind == "laplace":
        tree = relabel.sources.from_gaussian(
            fits["laplace/loc"], cov=fits["laplace/covariance"], layout=layout
        )
    else:
        loc, scale = (
            {name: fits[f"normal/{name}_auto_{part}"] for name in layout}
            for part in ("loc", "scale")
        )
        tree = relabel.sources.from_gaussian(loc, sd=scale)
    spec = relabel.sources.gaussian_spec(tree, spec_of("tanh"))
    aligned = relabel.align(tree, spec, criterion="wasserstein")
    record = json.loads(aligned["relabel"].attrs["relabel"])
    assert record["losses"][-1] < 0.1 * record["loss_before"]
    mean = relabel.average(aligned, inputs=fits["X"], targets=fits["y"]).loss
    assert mean.mean_network < 1.5 * mean.members.mean() < mean.before
