"""Labels and their probabilities: missing ones, other dtypes, and what is wrong with them."""

import json

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel.errors import DataError
from relabel.numerics.labels import checked_labels, checked_probabilities, labels_in, moved_labels

SAMPLE = ("chain", "draw")
SPEC = relabel.mixture(["mu"], z="allocation/z")
DTYPES = ["int8", "uint8", "int64", "float32", "float64"]


def switching(k: int = 3, n: int = 11, *, seed: int = 0) -> tuple[xr.DataTree, np.ndarray]:
    """A mixture that switches labels in every draw; labels of one group, the same but for names."""
    rng = np.random.default_rng(seed)
    names = np.argsort(rng.random((2, 15, k)), axis=-1)  # of component j
    truth = rng.integers(0, k, n)
    mu = np.empty((2, 15, k))
    centres = np.broadcast_to(5.0 * np.arange(k), mu.shape)
    np.put_along_axis(mu, names, centres + 0.1 * rng.normal(size=mu.shape), axis=-1)
    z = names[..., truth]
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"mu": ((*SAMPLE, "component"), mu)}),
            "allocation": xr.Dataset({"z": ((*SAMPLE, "obs"), z)}),
        }
    )
    return tree, truth


def with_labels(tree: xr.DataTree, z: np.ndarray, dims: tuple[str, ...] = ("obs",)) -> xr.DataTree:
    tree = tree.copy()
    tree["allocation"] = xr.DataTree(xr.Dataset({"z": ((*SAMPLE, *dims), z)}))
    return tree


def labels(tree: xr.DataTree) -> np.ndarray:
    return tree["allocation"]["z"].values


# ---------------------------------------------------------------------- aligned


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_labels_follow_and_missing_ones_stay(dtype, share):
    tree, _ = switching()
    gone = np.random.default_rng(1).random(labels(tree).shape) < share
    if dtype == "uint8" and share:
        return
    mark = np.nan if dtype.startswith("float") else -1
    tree = with_labels(tree, np.where(gone, mark, labels(tree)).astype(dtype))
    aligned = relabel.align(tree, SPEC)
    z = labels(aligned)
    assert z.dtype == dtype
    assert np.array_equal(np.isnan(z) | (z == -1), gone)
    assert np.array_equal(z[~gone], np.broadcast_to(_in_slots(aligned), z.shape)[~gone])
    back = labels(relabel.undo(aligned))
    assert back.dtype == dtype
    assert np.array_equal(back, labels(tree), equal_nan=True)


def _in_slots(aligned: xr.DataTree) -> np.ndarray:
    """The true labels of all observations, in the slots of an alignment."""
    _, truth = switching()
    slot_of = np.argsort(aligned["posterior"]["mu"].values[0, 0])
    return slot_of[truth]


def test_any_shape_and_any_group():
    tree, _ = switching()
    z = labels(tree)
    nested = np.stack([z[..., :10].reshape(2, 15, 2, 5), np.full((2, 15, 2, 5), -1)], axis=2)
    tree = with_labels(tree, nested, ("copy", "row", "word"))
    one = labels(relabel.align(tree, SPEC))
    posterior = tree["posterior"].to_dataset().assign(path=((*SAMPLE, "time"), z[..., :10]))
    tree["posterior"] = xr.DataTree(posterior)
    spec = relabel.Spec({"component": "permutation"}, values={"path": "component"})
    two = relabel.align(tree, spec)["posterior"]["path"].values
    assert np.array_equal(one[:, :, 0].reshape(two.shape), two)
    assert (one[:, :, 1] == -1).all()


def test_two_components_as_booleans():
    tree, truth = switching(2)
    tree = with_labels(tree, labels(tree).astype(bool))
    z = labels(relabel.align(tree, SPEC))
    assert z.dtype == bool
    assert (z == z[0, 0]).all()
    assert np.array_equal(z[0, 0], truth) or np.array_equal(~z[0, 0], truth)


@pytest.mark.parametrize("k", [1, 30])
def test_one_component_and_more_components_than_observations(k):
    tree, _ = switching(k)
    z = labels(relabel.align(tree, SPEC))
    assert (z == z[0, 0]).all()
    assert len(np.unique(z)) < k or k == 1


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_files_with_missing_labels(tmp_path, dtype):
    """A fill value turns integers into floats when a file is read, and back when it is written."""
    tree, _ = switching()
    gone = np.random.default_rng(1).random(labels(tree).shape) < 0.3
    tree = with_labels(tree, np.where(gone, np.nan, labels(tree)))
    tree["allocation"]["z"].encoding = {"dtype": dtype, "_FillValue": -9}
    tree.to_netcdf(tmp_path / "raw.nc", engine="h5netcdf")
    opened = relabel.open_draws(tmp_path / "raw.nc")
    relabel.save(relabel.align(opened, SPEC), tmp_path / "aligned.nc", source=tmp_path / "raw.nc")
    z = labels(relabel.open_draws(tmp_path / "aligned.nc"))
    assert np.array_equal(z, labels(relabel.align(tree, SPEC)), equal_nan=True)


# ---------------------------------------------------------------------- wrong labels


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda z: z + 1,
            "labels from 1 to 3, but 'component' has 3 units, labelled 0 to 2: they look 1",
        ),
        (lambda z: np.where(z == 0, 7, z), "labels from 1 to 7, .*; number them from 0"),
        (lambda z: np.where(z == 0, 4, z), "labels from 1 to 4, .*; number them from 0"),
        (lambda z: z - 2, "labels from -2 to 0, .* mark missing labels by -1"),
        (lambda z: z + 0.5, "0.5, but labels of 'component' must be integers from 0 to 2"),
        (lambda z: np.where(z == 0, np.inf, z), "inf, but labels"),
    ],
)
def test_wrong_labels_are_named_before_anything_is_done(change, said, lazy):
    tree, _ = switching()
    tree = with_labels(tree, change(labels(tree)))
    if lazy:
        tree["allocation"] = xr.DataTree(tree["allocation"].to_dataset().chunk(draw=4))
    with pytest.raises(
        DataError, match=f"allocation/z holds (labels )?{said.removeprefix('holds ')}"
    ):
        relabel.align(tree, SPEC)


def test_labels_that_never_are_zero_are_a_warning():
    tree, _ = switching()
    padded = tree["posterior"].to_dataset().pad(component=(0, 2), constant_values=9)
    tree["posterior"] = xr.DataTree(padded)
    tree = with_labels(tree, labels(tree) + 1)
    warning, better = _warnings(relabel.align(tree, SPEC))
    assert "allocation/z holds labels from 1 to 3, never 0, of 5 units" in warning
    assert "labels - 1" in warning
    assert "those of normal are the more probable" in better  # labels that are off by one mislead
    assert not _warnings(relabel.align(with_labels(tree, labels(tree) - 1), SPEC))


@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_labels_that_were_not_declared_are_a_warning(dtype):
    tree, _ = switching()
    z = labels(tree).astype(dtype)
    z[..., 0] = -1 if dtype == "int64" else np.nan
    (warning,) = _warnings(relabel.align(with_labels(tree, z), relabel.mixture(["mu"])))
    assert "'allocation/z' holds integers that could name the 3 units" in warning


def _warnings(aligned: xr.DataTree) -> list[str]:
    return json.loads(aligned["relabel"].attrs["relabel"])["warnings"]


def test_lazy_labels_stay_lazy():
    tree, _ = switching()
    lazy = tree.copy()
    lazy["allocation"] = xr.DataTree(tree["allocation"].to_dataset().chunk(draw=4))
    aligned = relabel.align(lazy, SPEC)
    assert aligned["allocation"]["z"].chunks is not None
    assert np.array_equal(labels(aligned), labels(relabel.align(tree, SPEC)))


def test_labels_of_any_layout_in_memory():
    z = np.arange(24).reshape(2, 3, 4) % 5
    for view in (z, z.T, z[:, ::2], z[..., None], z[:, :0]):
        assert labels_in(view)[:2] == ((view.min(), view.max()) if view.size else (None, None))
    assert checked_labels(np.array([[0, 1], [2, -1]], "int8").T, 3, "z").dtype == np.int8
    assert checked_labels(np.array(2.0), 3, "z") == 2


def test_many_labels_are_moved_in_blocks():
    rng = np.random.default_rng(0)
    new = np.argsort(rng.random((70, 4)), axis=1)
    z = rng.integers(-1, 4, (70, 40_000)).astype("int8")
    moved = moved_labels(z, new, "z")
    assert np.array_equal(moved[z < 0], z[z < 0])
    padded = np.concatenate([new, np.full((70, 1), -1)], axis=1)
    assert np.array_equal(moved, np.take_along_axis(padded, z.astype(int), axis=1))


# ---------------------------------------------------------------------- probabilities


def probabilities(shape: tuple[int, ...], dtype: str = "float64") -> np.ndarray:
    p = np.random.default_rng(0).dirichlet(np.ones(shape[-1]), shape[:-1])
    return p.astype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 4), (5, 7, 4), (2, 5, 7, 4), (2, 5, 7, 1), (2, 0, 7, 4)])
def test_sound_probabilities_are_not_copied(dtype, shape):
    p = probabilities(shape, dtype)
    assert checked_probabilities(p, "p") is p
    if p.size and p.shape[-1] > 1:
        p[..., 0, :] = np.nan
        p[..., 1, :] = [1, 0, 0, 0]
        assert checked_probabilities(p, "p") is p


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row * 0.98, "add up to 0.98, not to one; divide them by their sum"),
        (lambda row: row * 0, "are all zero, so that it belongs to no component"),
        (np.log, "is -[0-9.]+; probabilities are not negative .exponentiate"),
        (lambda row: row + np.array([0, 0, 0, np.inf]), "add up to inf, not to one"),
        (lambda row: row + np.array([0, 0, 0, np.nan]), "are NaN; a row is missing as a whole"),
    ],
)
def test_wrong_probabilities_are_named(change, said):
    p = probabilities((2, 4000, 70, 4))  # more than one block
    p[1, 3999, 5] = change(p[1, 3999, 5])
    with pytest.raises(DataError, match=r"^p: .*observation 5 in draw \(1, 3999\) " + said):
        checked_probabilities(p, "p")
    with pytest.raises(DataError, match=r"^p: .*observation 5 in draw 3999 " + said):
        checked_probabilities(p[1], "p")
    with pytest.raises(DataError, match=r"^p: .*observation 5 " + said):
        checked_probabilities(p[1, -1], "p")


@pytest.mark.parametrize("p", [np.ones(3), np.full((2, 3), "a")])
def test_what_are_no_probabilities(p):
    with pytest.raises(DataError, match=r"^p must hold numbers"):
        checked_probabilities(p, "p")


def test_text_of_three_digits_is_probabilities():
    rounded = np.array([[0.333, 0.333, 0.332]])
    assert checked_probabilities(rounded, "p") is rounded
