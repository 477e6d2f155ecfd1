"""A kind of element is one class: general linear ones, as a third party would add them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr

from relabel.errors import DataError
from relabel.groups import GROUPS, Action, Dense, Element, Group, Monomial, register
from relabel.groups.elements import ELEMENTS, Stored
from relabel.spec.spec import Spec
from relabel.spec.transformation import Transformation

BATCH, K = (2, 5), 3


@dataclass(frozen=True)
class General(Element):
    """Invertible matrices: G acts on what is written, its inverse transposed on what is read."""

    matrix: np.ndarray

    stored: ClassVar = (Stored("matrix", ("{units}", "{units}_unit"), "slot k of {units} mixes"),)

    @property
    def arrays(self):
        return (self.matrix,)

    @classmethod
    def identity(cls, batch, size):
        return cls(np.broadcast_to(np.eye(size), (*batch, size, size)).copy())

    @classmethod
    def of(cls, element):
        return element if isinstance(element, cls) else cls(element.matrices())

    @classmethod
    def checked(cls, units, *arrays):
        if not (np.linalg.cond(arrays[0]) < 1e12).all():
            raise DataError(f"relabel/{units}_matrix holds matrices that cannot be inverted")
        return cls(arrays[0])

    def act(self, array, axis=0, *, power=1, signed=True):
        matrix = self.matrix if power == 1 else np.linalg.inv(self.matrix).swapaxes(-1, -2)
        at = len(self.batch) + axis
        cells = np.moveaxis(array, at, -1)
        others = (1,) * (cells.ndim - len(self.batch) - 1)
        moved = matrix.reshape(*self.batch, *others, K, K) @ cells[..., None]
        return np.moveaxis(moved[..., 0], -1, at)

    def inverse(self):
        return General(np.linalg.inv(self.matrix))

    def __matmul__(self, other):
        return General(self.matrix @ other.matrices())

    def __rmatmul__(self, other):
        return General(other.matrices() @ self.matrix)


@dataclass(frozen=True)
class GeneralLinear(Group):
    label = "general linear group"
    exact = False
    rotates = True

    @property
    def signs(self):
        return True

    def action(self, role):
        return {"head": Action(1, True), "tail": Action(-1, True)}.get(role)

    def identity(self, batch, size):
        return General.identity(batch, size)


@pytest.fixture
def registered():
    ELEMENTS.register("matrix", General)
    register("general", GeneralLinear())
    yield
    del ELEMENTS._known["matrix"], GROUPS._known["general"]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def elements(rng):
    general = General(rng.normal(size=(*BATCH, K, K)) + 3 * np.eye(K))
    dense = Dense(np.linalg.qr(rng.normal(size=(*BATCH, K, K)))[0])
    index = rng.permuted(np.tile(np.arange(K), (*BATCH, 1)), axis=-1)
    return general, dense, Monomial(index, rng.choice([-1.0, 1.0], size=(*BATCH, K)))


def test_kinds_compose_as_the_more_general_of_two(rng):
    found = elements(rng)
    values = rng.normal(size=(*BATCH, 2, K, 4))
    for i, one in enumerate(found):
        for j, two in enumerate(found):
            both = one @ two
            assert type(both) is type(found[min(i, j)])
            twice = one.act(two.act(values, 1), 1)
            np.testing.assert_allclose(both.act(values, 1), twice, rtol=1e-10, atol=1e-12)
            assert one.equals(two).all() == (i == j)


def test_a_kind_cannot_hold_a_more_general_one(rng):
    general, dense, monomial = elements(rng)
    for narrow, wide in ((dense, general), (monomial, general), (monomial, dense)):
        with pytest.raises(TypeError, match="expected"):
            narrow.copy().put(0, wide[0])
    assert general.where(np.zeros(BATCH, bool), dense).equals(dense).all()


def test_labels_are_those_of_the_nearest_permutation(rng):
    monomial = elements(rng)[2]
    for kind in (Dense, General):
        near = kind(monomial.matrices() + 0.1 * rng.uniform(-1, 1, (*BATCH, K, K)))
        assert np.array_equal(near.labels(), monomial.labels())
        assert near.mixes
    assert np.array_equal(monomial.labels() // 2, monomial.index)
    assert np.array_equal(monomial.labels() % 2 == 1, monomial.factor < 0)


@pytest.mark.usefixtures("registered")
def test_draws_are_transformed_stored_and_undone(rng):
    general = elements(rng)[0]
    draws = xr.Dataset(
        {
            "W": (("chain", "draw", "a", "b"), rng.normal(size=(*BATCH, 4, K))),
            "V": (("chain", "draw", "c", "d"), rng.normal(size=(*BATCH, K, 2))),
        }
    )
    resolved = Spec({"h": "general"}, {"W": "x -> h", "V": "h -> y"}).bind(draws)
    moved = Transformation({"h": general}).apply({"posterior": draws}, resolved)
    one, two = draws, moved["posterior"]
    assert not np.allclose(one["W"], two["W"])
    np.testing.assert_allclose(
        two["W"].values @ two["V"].values, one["W"].values @ one["V"].values, rtol=1e-10
    )
    stored = Transformation({"h": general}).to_dataset()
    assert dict(stored.sizes) == {"chain": 2, "draw": 5, "h": K, "h_unit": K}
    assert stored["h_matrix"].attrs == {"long_name": "slot k of h mixes"}
    read = Transformation.from_dataset(stored, ["h"])
    back = read.inverse().apply(moved, resolved)["posterior"]
    xr.testing.assert_allclose(back, draws, rtol=1e-10)
    with pytest.raises(DataError, match="relabel/h_matrix holds matrices that cannot be inverted"):
        Transformation.from_dataset(stored * 0, ["h"])


def test_what_no_kind_knows_is_said():
    stored = xr.Dataset({"h_matrix": (("chain", "draw", "h", "h_unit"), np.ones((1, 1, 2, 2)))})
    with pytest.raises(DataError, match="has no variable 'h_index'"):
        Transformation.from_dataset(stored, ["h"])
