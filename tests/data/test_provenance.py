"""The record of an alignment: typed, versioned, read in one place, in every form it has had."""

import json

import numpy as np
import pytest
import xarray as xr
from files import RECORDED

import relabel
from relabel import DataError, Provenance
from relabel.data.provenance import FORMAT
from relabel.matching.criteria import rebuilt

GOLDEN = sorted((RECORDED / "golden").glob("aligned_*.nc"))


def aligned(**options):
    mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    return relabel.align(draws, {"component": "permutation"}, **options)


def test_what_is_recorded():
    found = Provenance.of(aligned())
    assert found.spec.units == {"component": "permutation"}
    assert found.criterion["name"] == "normal"
    assert found.variables == ("posterior/mu",)
    assert (found.n_moved, found.converged) == (1, True)
    assert found.loss_of_draws == pytest.approx(found.losses[-1])
    assert found.versions["numpy"] == np.__version__
    assert found.earlier is None


def test_it_comes_back_from_its_text():
    twice = relabel.align(aligned(), {"component": "permutation"})
    found = Provenance.of(twice)
    assert isinstance(found.earlier, Provenance)
    assert Provenance.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    assert found.as_dict()["format"] == FORMAT


def test_all_ask_for_one_object():
    data = aligned()
    assert Provenance.of(data) is Provenance.of(data)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_records_of_every_version_are_read(path):
    data = relabel.open_draws(path)
    found = Provenance.of(data)
    stored = json.loads(data["relabel"].attrs["relabel"])
    assert found.spec == relabel.Spec.from_dict(stored["spec"])
    assert list(found.losses) == stored["losses"]
    assert Provenance.from_dict(found.as_dict()) == found
    assert not {"seed", "n_kicks"} & set(found.options)
    assert rebuilt(found.criterion).criterion == relabel.criteria.Mean()


def test_names_of_the_first_form_are_those_of_today():
    values = Provenance.of(aligned()).as_dict()
    del values["format"]
    values["options"] = {"seed": 3, "n_kicks": 30}
    values["criterion"] = {"name": "order", "by": "mu", "descending": False}
    found = Provenance.from_dict(values)
    assert found.options == {"rng": 3, "n_perturbations": 30}
    assert rebuilt(found.criterion).criterion == relabel.criteria.Order("mu")


def test_later_forms_are_refused():
    data = aligned()
    values = Provenance.of(data).as_dict() | {"format": FORMAT + 1}
    with pytest.raises(DataError, match=f"has the format {FORMAT + 1}.*newer version"):
        Provenance.of(data.assign_attrs(relabel=json.dumps(values)))


def test_draws_that_were_not_aligned():
    with pytest.raises(DataError, match="were not aligned"):
        Provenance.of(relabel.undo(aligned()))


@pytest.mark.parametrize(
    "change",
    [
        lambda values: "not JSON",
        lambda values: "[]",
        lambda values: "null",
        lambda values: 7,
        lambda values: json.dumps({**values, "spec": None}),
        lambda values: json.dumps({**values, "spec": {"units": 3}}),
        lambda values: json.dumps({**values, "criterion": "mean"}),
        lambda values: json.dumps({**values, "criterion": {}}),
        lambda values: json.dumps({**values, "criterion": {"name": 3}}),
        lambda values: json.dumps({**values, "losses": 3}),
        lambda values: json.dumps({**values, "options": []}),
        lambda values: json.dumps({**values, "variables": "posterior/mu"}),
        lambda values: json.dumps({**values, "format": "two"}),
        lambda values: json.dumps({**values, "more": 1}),
        lambda values: json.dumps({**values, "earlier": {}}),
        lambda values: json.dumps({k: v for k, v in values.items() if k != "losses"}),
        lambda values: json.dumps({k: v for k, v in values.items() if k != "spec"}),
    ],
)
def test_damaged_records_are_refused(change):
    data = aligned()
    text = change(Provenance.of(data).as_dict())
    with pytest.raises(DataError, match=r"'relabel' is damaged|has the format"):
        Provenance.of(data.assign_attrs(relabel=text))


def test_a_symmetry_of_a_package_that_is_not_installed():
    data = aligned()
    values = Provenance.of(data).as_dict() | {"spec": {"units": {"component": "theirs"}}}
    with pytest.raises(
        DataError, match=r"the symmetry 'theirs', which no installed package brings"
    ):
        Provenance.read({"relabel": json.dumps(values)})
