"""Elements as labelled arrays: the group, the action on datasets, the way to files and back."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from strategies import Net, act, batches, nets, rngs

from relabel import DataError, Spec, Transformation
from relabel.groups.elements import Monomial
from relabel.simulate import network, recovery

SAMPLE = ("chain", "draw")


def assert_close(one, two, tolerance):
    for name in one.data_vars:
        assert one[name].dims == two[name].dims
        scale = float(np.abs(two[name]).max()) or 1.0
        np.testing.assert_allclose(one[name], two[name], rtol=tolerance, atol=tolerance * scale)


def assert_same_elements(one, two):
    assert list(one.elements) == list(two.elements)
    for units, element in one.elements.items():
        assert element.equals(two.elements[units]).all()


@given(nets(max_layers=3), batches, rngs)
def test_composition_and_inverse_act_as_they_should(net, batch, rng):
    draws = net.store(net.random_weights(rng, batch))
    g, h = (net.random_transformation(rng, batch) for _ in range(2))
    tolerance = 0.0 if net.bitwise else 1e-10
    assert_close(act(net, g @ h, draws), act(net, g, act(net, h, draws)), tolerance)
    assert_close(act(net, g.inverse(), act(net, g, draws)), draws, tolerance)
    one = Transformation.identity(dict(zip(net.units, net.hidden, strict=True)), batch)
    assert_close(act(net, one, draws), draws, 0.0)


@given(nets(), batches, rngs)
def test_round_trip_through_a_dataset(net, batch, rng):
    g = net.random_transformation(rng, batch)
    assert_same_elements(Transformation.from_dataset(g.to_dataset(), list(net.units)), g)


@given(nets(), rngs)
@settings(max_examples=5)
def test_round_trip_through_files(tmp_path_factory, net, rng):
    folder = tmp_path_factory.mktemp("files")
    g = net.random_transformation(rng, (2, 7))
    g.to_dataset().to_netcdf(folder / "g.nc", engine="h5netcdf")
    with xr.open_dataset(folder / "g.nc", engine="h5netcdf") as stored:
        assert_same_elements(Transformation.from_dataset(stored.load(), list(net.units)), g)
    g.to_dataset().to_zarr(folder / "g.zarr")
    stored = xr.open_zarr(folder / "g.zarr").load()
    assert_same_elements(Transformation.from_dataset(stored, list(net.units)), g)


def test_axes_in_another_order_are_read_as_well():
    g = Net((3,), ("tanh",)).random_transformation(np.random.default_rng(0), (2, 4))
    turned = g.to_dataset().transpose("h1", "draw", "chain")
    assert_same_elements(Transformation.from_dataset(turned, ["h1"]), g)


@pytest.mark.parametrize(
    ("variable", "place", "value", "message"),
    [
        ("h1_index", (0, 1, 0), 7, "no permutations"),
        ("h1_index", (0, 1), 0, "no permutations"),
        ("h1_factor", (0, 1, 2), 0.0, "zero or not finite"),
        ("h1_factor", (0, 1, 2), np.nan, "zero or not finite"),
    ],
)
def test_damaged_arrays_are_refused(variable, place, value, message):
    g = Net((3,), ("tanh",)).random_transformation(np.random.default_rng(0), (2, 4))
    stored = g.to_dataset()
    stored[variable].values[place] = value
    with pytest.raises(DataError, match=message):
        Transformation.from_dataset(stored, ["h1"])
    with pytest.raises(DataError, match="no variable"):
        Transformation.from_dataset(stored.drop_vars(variable), ["h1"])


def test_everything_else_stays():
    """Dimensions, coordinates, attributes, encodings, dtypes, and variables without units."""
    rng = np.random.default_rng(0)
    net = Net((3,), ("tanh",))
    draws = net.store(net.random_weights(rng, (2, 5))).astype("float32")
    draws = draws.assign_coords(chain=[3, 4], W1_dim_1=["a", "b", "c"], b1_dim_0=[9, 8, 7])
    draws["sigma"] = (SAMPLE, np.ones((2, 5)))
    draws.attrs, draws["W1"].attrs = {"made": "by hand"}, {"unit": "none"}
    draws["W1"].encoding = {"zlib": True}
    before = draws.copy(deep=True)
    g = net.random_transformation(rng, (2, 5))
    moved = act(net, g, draws)
    xr.testing.assert_identical(draws, before)
    assert moved.attrs == draws.attrs
    assert moved["W1"].attrs == {"unit": "none"}
    assert moved["W1"].encoding == {"zlib": True}
    for name in draws.data_vars:
        assert moved[name].dims == draws[name].dims
        assert moved[name].dtype == draws[name].dtype
    xr.testing.assert_identical(moved.coords.to_dataset(), draws.coords.to_dataset())
    xr.testing.assert_identical(moved["sigma"], draws["sigma"])
    xr.testing.assert_identical(moved["b2"], draws["b2"])


@given(nets(), batches, rngs)
def test_extra_axes_move_as_one(net, batch, rng):
    """A companion with further axes, some before and some after that of its units."""
    draws = net.store(net.random_weights(rng, batch))
    values = rng.normal(size=(*batch, 2, net.hidden[0], 3))
    draws["extra"] = ((*SAMPLE, "e0", "e1", "e2"), values)
    spec = Spec(
        net.units, {**net.spec.axes, "extra": "_ h1^0 ..."}, net.spec.values, net.spec.sizes
    )
    g = net.random_transformation(rng, batch)
    moved = g.apply({"posterior": draws}, spec.bind(draws))["posterior"]
    index = g.elements["h1"].index[:, :, None, :, None]
    assert np.array_equal(moved["extra"], np.take_along_axis(values, index, axis=3))


def test_a_flattened_product_of_units():
    """(gate h): the same units in every block of a longer axis."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, 5, 3, 8))
    draws = xr.Dataset({"W": ((*SAMPLE, "i", "j"), values)})
    spec = Spec({"h": "permutation"}, {"W": "x -> (gate h)"}, sizes={"h": 4})
    g = Transformation(
        {"h": Net((4,), ("gelu",)).random_transformation(rng, (2, 5)).elements["h1"]}
    )
    moved = g.apply({"posterior": draws}, spec.bind(draws))["posterior"]["W"].values
    index = g.elements["h"].index[:, :, None, None, :]
    expected = np.take_along_axis(values.reshape(2, 5, 3, 2, 4), index, axis=-1)
    assert np.array_equal(moved, expected.reshape(values.shape))


def test_labels_out_of_range_are_refused():
    draws = xr.Dataset({"z": ((*SAMPLE, "obs"), np.array([[[0, 1, 2]]]))})
    swap = Transformation({"c": Monomial(np.array([[[1, 0]]]), np.ones((1, 1, 2)))})
    with_mu = draws.assign(mu=((*SAMPLE, "k"), np.zeros((1, 1, 2))))
    spec = Spec({"c": "permutation"}, axes={"mu": "c"}, values={"z": "c"})
    with pytest.raises(DataError, match="labels from 0 to 2, but 'c' has 2 units"):
        swap.apply({"posterior": with_mu}, spec.bind(with_mu))


# ---------------------------------------------------------------------- planted networks


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "cos", "gelu", "x^3"])
@pytest.mark.parametrize("switching", ["draw", "chain"])
def test_the_oracle_undoes_what_was_planted(activation, switching):
    sim = network((2, 4, 3, 1), activation, chains=3, draws=6, switching=switching, rng=1)
    draws = sim.data["posterior"].to_dataset()
    resolved = sim.spec.bind(draws)
    back = sim.planted.inverse().apply({"posterior": draws}, resolved)["posterior"]
    assert_close(back, sim.clean, 1e-12)
    assert any((draws[name] != sim.clean[name]).any() for name in draws.data_vars)
    assert recovery(sim.planted.inverse(), sim.planted)["draws"] == 1.0
    for element in sim.planted.elements.values():
        once_a_chain = (element.index == element.index[:, :1]).all()
        assert bool(once_a_chain) == (switching == "chain")


def test_recovery_counts_what_is_wrong():
    sim = network((2, 4, 1), "tanh", chains=2, draws=10)
    found = sim.planted.inverse()
    shift = Monomial(np.array([1, 2, 3, 0]), np.array([1.0, -1, 1, 1]))
    everywhere = Monomial(*(np.tile(p, (2, 10, 1)) for p in (shift.index, shift.factor)))
    turned = Transformation({"h": everywhere}) @ found
    assert recovery(turned, sim.planted) == {"h": 1.0, "draws": 1.0}
    turned.elements["h"].factor[0, 0, 2] *= -1  # one sign of one draw
    assert recovery(turned, sim.planted) == {"h": 1 - 1 / 80, "draws": 1 - 1 / 20}
    turned.elements["h"].index[1, 3] = turned.elements["h"].index[1, 3, [1, 0, 2, 3]]
    assert recovery(turned.to_dataset(), sim.planted)["draws"] == 1 - 2 / 20


def test_simulated_draws_come_from_the_seed():
    one, two, other = (network((2, 3, 1), draws=5, rng=s) for s in (1, 1, 2))
    xr.testing.assert_identical(
        one.data["posterior"].to_dataset(), two.data["posterior"].to_dataset()
    )
    assert not np.array_equal(one.truth["W1"], other.truth["W1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((3, 1),), "at least one hidden layer"),
        (((3, 0, 1),), "positive integers"),
        (((3, 2, 2, 1), ["tanh"]), "1 values of activation for 2 layers"),
        (((3, 2, 1), "tahn"), "unknown activation"),
    ],
)
def test_networks_that_cannot_be_simulated(arguments, message):
    with pytest.raises(ValueError, match=message):
        network(*arguments)
