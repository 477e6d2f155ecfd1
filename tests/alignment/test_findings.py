"""How the criterion was chosen, what others would have done, and what tells the slots apart."""

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import Provenance
from relabel.alignment.default import default_criterion
from relabel.alignment.evidence import Evidence, _of_allocations
from relabel.alignment.opinions import second_opinions
from relabel.alignment.separated import separations_in
from relabel.criteria import Mean, Normal, Stephens
from relabel.data.containers import unpack
from relabel.groups.elements import Monomial
from relabel.matching.draws import Draws
from relabel.spec.spec import Spec

S = ("chain", "draw")
C, D, K, N = 2, 40, 3, 25
UNITS = {"component": "permutation"}
TRUE = np.repeat(np.arange(K), [10, 9, 6])


def draws(seed=0, spread=0.3):
    """A mixture whose means tell the components apart; its order, and its posterior."""
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((C, D, K)), axis=2)
    mu = np.array([0.0, 3.0, 9.0]) + spread * rng.normal(size=(C, D, K))
    w = 0.3 + 0.05 * rng.normal(size=(C, D, K))
    take = lambda values: np.take_along_axis(values, order, axis=2)  # noqa: E731
    posterior = xr.Dataset({"mu": ((*S, "component"), take(mu)), "w": ((*S, "component"), take(w))})
    return order, posterior


def allocated(order):
    """Allocations in the labels of the draws."""
    z = np.argsort(order, axis=2)[:, :, TRUE]
    return xr.Dataset({"z": ((*S, "obs"), z)})


def probabilities(order):
    z = allocated(order)["z"].values
    p = 0.05 + 0.85 * (z[..., None] == np.arange(K))
    return xr.Dataset({"prob": ((*S, "obs", "component"), p)})


def tree(posterior, **groups):
    return xr.DataTree.from_dict({"posterior": posterior, **groups})


# ---------------------------------------------------------------------- the default


def test_allocations_decide_where_they_are_there():
    order, posterior = draws()
    aligned = relabel.align(tree(posterior, allocation=allocated(order)), UNITS)
    record = Provenance.of(aligned)
    assert record.criterion["name"] == "ecr-iterative-1"
    assert record.chosen == "allocation/z holds allocations"
    slots = aligned["allocation"]["z"].values
    assert (slots == slots[0, 0]).all()


def test_probabilities_come_first():
    order, posterior = draws()
    own = xr.merge([allocated(order), probabilities(order)])
    record = Provenance.of(relabel.align(tree(posterior, allocation=own), UNITS))
    assert record.criterion["name"] == "stephens"
    assert record.chosen == "allocation/prob holds probabilities of allocations"


def test_parameters_decide_otherwise():
    order, posterior = draws()
    record = Provenance.of(relabel.align(posterior, UNITS))
    assert (record.criterion["name"], record.chosen) == ("normal", "there are no allocations")
    spec = Spec({"component": "signed"}, {"mu": "component", "w": "component^0"})
    signed = relabel.align(tree(posterior, allocation=allocated(order)), spec)
    assert Provenance.of(signed).criterion["name"] == "normal"
    twice = xr.merge([allocated(order), allocated(order).rename(z="z2")])
    record = Provenance.of(relabel.align(tree(posterior, allocation=twice), UNITS))
    assert (
        record.chosen == "there are several variables of allocations (allocation/z, allocation/z2)"
    )


def test_what_does_not_sum_to_one_is_no_probability():
    order, posterior = draws()
    own = 2 * probabilities(order)
    found = default_criterion(Spec(UNITS), {"posterior": posterior, "allocation": own})
    assert found.criterion == Normal()


def test_a_named_criterion_is_taken_and_asks_nobody():
    order, posterior = draws()
    data = tree(posterior, allocation=allocated(order))
    record = Provenance.of(relabel.align(data, UNITS, criterion="mean"))
    assert (record.criterion["name"], record.chosen, record.opinions) == ("mean", None, ())


# ---------------------------------------------------------------------- a second opinion


def evidence_of(posterior, order=None, groups=None, allocating=None):
    """Evidence for the labels as they came, or for those that undo the order."""
    held = {"posterior": posterior, **(groups or {})}
    spec = Spec(UNITS, values={"allocation/z": "component"} if groups else {})
    read = Draws.read(held, spec, "raise")
    element = Monomial.identity((C * D,), K)
    if order is not None:
        element = Monomial(np.argsort(order, axis=2).reshape(-1, K), np.ones((C * D, K)))
    return Evidence.of(read, {"component": element}, allocating)


def test_other_labels_are_named_with_their_likelihood():
    order, posterior = draws()
    wrong = {o.criterion: o for o in second_opinions(evidence_of(posterior), Mean())}
    assert wrong["normal"].better
    assert wrong["normal"].differ > 0.5
    assert "those of normal are the more probable" in str(wrong["normal"])
    right = {o.criterion: o for o in second_opinions(evidence_of(posterior, order), Mean())}
    assert not right["normal"].matters
    assert str(right["normal"]) == "normal gives the same labels"


def test_better_labels_are_a_warning(monkeypatch):
    from relabel.alignment import default

    monkeypatch.setattr(default, "Normal", lambda: Mean(var_names=("w",)))
    _, posterior = draws()
    aligned = relabel.align(posterior, UNITS)
    said = " ".join(Provenance.of(aligned).warnings)
    assert "those of normal are the more probable" in said
    account = str(relabel.stats.alignment_report(posterior, aligned))
    assert "opinion " in account


def test_nats_are_those_of_the_allocations():
    order, posterior = draws()
    own = {"allocation": allocated(order)}
    from relabel.criteria import ECRIterative1

    criterion = ECRIterative1(z="allocation/z")
    for known in (None, order):
        evidence = evidence_of(posterior, known, own, criterion)
        element = evidence.labels["component"]
        slots = np.take_along_axis(
            element.inverse().index, own["allocation"]["z"].values.reshape(C * D, N), axis=1
        )
        share = (slots[:, :, None] == np.arange(K)).mean(axis=0)
        expected = -np.log(np.take_along_axis(share[None], slots[:, :, None], axis=2)).sum()
        assert _of_allocations(evidence.allocations, element) == pytest.approx(expected)


def test_probabilities_count_by_their_cross_entropy():
    order, posterior = draws()
    prob = probabilities(order)
    evidence = evidence_of(posterior, order, None, None)
    spec = Spec(UNITS, {"mu": "component", "w": "component", "allocation/prob": "obs component"})
    read = Draws.read({"posterior": posterior, "allocation": prob}, spec, "raise")
    evidence = Evidence.of(read, evidence.labels, Stephens(prob="allocation/prob"))
    index = evidence.labels["component"].index.reshape(C, D, 1, K)
    p = np.take_along_axis(prob["prob"].values, np.broadcast_to(index, (C, D, N, K)), axis=3)
    expected = -(p * np.log(p.mean(axis=(0, 1)))).sum()
    found = _of_allocations(evidence.allocations, evidence.labels["component"])
    assert found == pytest.approx(expected)


def test_many_draws_are_judged_by_some_of_them():
    rng = np.random.default_rng(0)
    mu = rng.normal(size=(3, 1000, 2)) + np.array([0.0, 9.0])
    read = Draws.read(
        {"posterior": xr.Dataset({"mu": ((*S, "component"), mu)})}, Spec(UNITS), "raise"
    )
    evidence = Evidence.of(read, {"component": Monomial.identity((3000,), 2)}, None)
    assert 390 <= evidence.problem.n_draws <= 400


def test_draws_that_are_left_out_are_no_evidence():
    _, posterior = draws()
    posterior["mu"][:, ::2] = np.nan
    aligned = relabel.align(posterior, UNITS, nonfinite="skip")
    (opinion,) = [o for o in Provenance.of(aligned).opinions if o["criterion"] == "mean"]
    assert opinion["n_draws"] == C * D // 2


def test_parameters_that_are_not_finite_do_not_stop_allocations():
    order, posterior = draws()
    posterior["mu"][:] = np.nan
    data = tree(posterior[["mu"]], allocation=allocated(order))
    aligned = relabel.align(data, UNITS, nonfinite="skip")
    assert Provenance.of(aligned).opinions == ()


# ---------------------------------------------------------------------- what tells slots apart


@pytest.mark.parametrize("kind", ["dataset", "tree"])
@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_what_separates_is_in_the_record(kind, suffix, tmp_path):
    _, posterior = draws()
    data = posterior if kind == "dataset" else tree(posterior)
    aligned = relabel.align(data, UNITS)
    relabel.save(aligned, tmp_path / f"out.{suffix}")
    own = unpack(relabel.open_draws(tmp_path / f"out.{suffix}"))["relabel"]
    (found,) = separations_in(own, UNITS).values()
    assert found.variables == ("mu", "w")
    assert (found.log_odds[:, 0] > 20).all()
    assert (found.log_odds[:, 1] < 1).all()
    near = unpack(aligned)["posterior"]["mu"].mean(S).values.argsort()
    assert found.rival[near[2]] == near[1]
    undone = relabel.undo(aligned)
    back = undone if kind == "dataset" else undone["posterior"].to_dataset()
    assert back.identical(posterior)


def test_the_account_says_all_of_it():
    _, posterior = draws()
    aligned = relabel.align(posterior, UNITS)
    facts = relabel.stats.alignment_report(posterior, aligned).facts
    said = dict(facts)
    assert said["default"] == "no criterion was named, and there are no allocations"
    assert said["begin"].startswith("the reference that the start")
    assert said["separated"].startswith("component: least log odds ")
    assert "mu" in said["separated"]
    assert [word for word, _ in facts].count("opinion") == 2


def test_compare_says_what_separates():
    _, posterior = draws()
    found = relabel.compare(posterior, UNITS)
    assert "normal: component: least log odds" in str(found)
    (row, _) = found.as_dict()["criteria"]
    assert row["separations"]["component"]["variables"] == ["mu", "w"]
    assert len(row["separations"]["component"]["slots"]) == K


def test_a_component_that_holds_next_to_nothing_has_a_finite_opinion():
    """Its share of an observation is below the least number that there is."""
    order, posterior = draws()
    clean = np.broadcast_to(TRUE[:, None] % 2 == np.arange(K), (C, D, N, K)).astype(float)
    clean[0, 0][clean[0, 0] == 0] = np.finfo(float).smallest_subnormal
    p = np.take_along_axis(clean, order[:, :, None, :], axis=3)
    data = tree(posterior, allocation=xr.Dataset({"prob": ((*S, "obs", "component"), p)}))
    opinions = Provenance.of(relabel.align(data, UNITS)).opinions
    assert len(opinions) == 3
    assert all(np.isfinite(opinion["nats"]) for opinion in opinions)
