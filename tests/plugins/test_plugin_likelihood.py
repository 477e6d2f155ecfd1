"""A third party's likelihood family: counts, in every verb and command that takes a likelihood."""

import configparser
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from files import REPOSITORY
from scipy import optimize, stats

import relabel
from relabel import Spec, SpecError
from relabel.diagnostics.likelihood import FAMILIES, Fitted

SITE = Path(__file__).parent / "site"
SAMPLE = ("chain", "draw")
SPEC = Spec({"h": "tanh"}, {"W": "x -> h", "b": "-> h", "V": "h -> y", "c": "-> y"})
NAMES = tuple(SPEC.axes)
N, SPARE = 100, 3  # inputs, slot of the unit that does next to nothing
DIRECTIONS = {
    3: [[2.0, -1.0, -1.0, 0.3], [0.0, 1.7, -1.7, 0.2]],
    2: [[2.0, -1.0, 0.5, 0.3], [0.5, 1.5, -2.0, 0.2]],  # two units can do what three do
}


def draws_of(width):
    """Aligned draws of a network of four units, so many of them needed, inputs and counts.

    They keep their order: it is that of the first draw.
    """
    rng = np.random.default_rng(0)
    centre = {
        "W": np.array(DIRECTIONS[width]),
        "b": np.array([0.3, -0.5, 0.8, 0.1]),
        "V": np.array([[1.0], [-1.0], [1.0], [0.03]]),
        "c": np.array([1.5]),
    }
    draws = {n: v + 0.02 * rng.normal(size=(2, 10, *v.shape)) for n, v in centre.items()}
    dims = {"W": ("x", "h"), "b": ("h",), "V": ("h2", "y"), "c": ("y",)}
    x = rng.normal(size=(N, 2))
    y = rng.poisson(np.exp(outputs(centre, x)[:, 0]))
    groups = {
        "posterior": xr.Dataset({n: ((*SAMPLE, *dims[n]), v) for n, v in draws.items()}),
        "constant_data": xr.Dataset({"X": (("obs", "i"), x), "y": ("obs", y)}),
    }
    return relabel.align(xr.DataTree.from_dict(groups), SPEC)


@pytest.fixture(scope="module")
def planted():
    return draws_of(3)


def outputs(draw, x):
    return np.tanh(x @ draw["W"] + draw["b"]) @ draw["V"] + draw["c"]


def members(aligned):
    """All draws as dicts of arrays, with the inputs and the counts."""
    posterior, data = aligned["posterior"], aligned["constant_data"]
    every = [{n: posterior[n].values[at] for n in NAMES} for at in np.ndindex(2, 10)]
    return every, data["X"].values, data["y"].values


def divergence(f, g):
    """Of Poisson laws with the log rates f and g."""
    with np.errstate(over="ignore"):
        return (np.exp(f) * (f - g) - np.exp(f) + np.exp(g)).sum()


def refitted(draw, x, gone):
    """Least divergence without some units, weights and bias of the reader refitted."""
    f = outputs(draw, x)
    design = np.column_stack([np.delete(np.tanh(x @ draw["W"] + draw["b"]), gone, 1), np.ones(N)])
    start = np.append(np.delete(draw["V"], gone), draw["c"])
    found = optimize.minimize(lambda u: divergence(f, (design @ u)[:, None]), start)
    return found.fun, found.x


def refitted_in_full(draw, x, gone, rng):
    """The same with all parameters of the units that stay refitted, from several starts."""
    f, n_units = outputs(draw, x), 4 - len(gone)
    _, readout = refitted(draw, x, gone)
    first = [np.delete(draw["W"], gone, 1).ravel(), np.delete(draw["b"], gone), readout]

    def loss(theta):
        W, b, V, c = np.split(theta, [2 * n_units, 3 * n_units, 4 * n_units])
        return divergence(f, outputs({"W": W.reshape(2, -1), "b": b, "V": V[:, None], "c": c}, x))

    starts = [np.concatenate(first) + s * rng.normal(size=4 * n_units + 1) for s in (0, 0.5, 1)]
    return min(optimize.minimize(loss, start).fun for start in starts)


# ---------------------------------------------------------------------- diagnose


def test_removal_losses_are_those_of_refits(installed, planted):
    data, found = relabel.diagnose(planted, likelihood="poisson_log")
    told = found.numbers["likelihood"]
    assert told == "Poisson_log targets (constant_data/y); outputs are the log rates."
    loss = data["relabel"]["h_removal_loss"]
    assert loss.attrs["units"] == "nats"
    every, x, _ = members(planted)
    for t in range(0, 20, 4):
        for unit in range(4):
            least, _ = refitted(every[t], x, [unit])
            assert least - 1e-6 <= loss.values.reshape(20, 4)[t, unit] <= 1.02 * least + 0.02


@pytest.mark.parametrize("width", DIRECTIONS)
def test_widths_are_those_of_refits(installed, width):
    aligned = draws_of(width)
    data, found = relabel.diagnose(aligned, likelihood="poisson_log")
    assert (data["relabel"]["h_effective_width"] == width).all()
    assert SPARE in found.numbers["spare_units"]["h"]
    every, x, _ = members(aligned)
    rng, limits = np.random.default_rng(0), 0.5 * stats.chi2.ppf(0.95, [0, 4, 8, 12])
    for draw in every[::10]:
        least = [
            min(refitted_in_full(draw, x, gone, rng) for gone in combinations(range(4), n))
            for n in (1, 2, 3)
        ]
        assert least[3 - width] < limits[4 - width]
        assert least[4 - width] > limits[5 - width]


def test_copies_are_duplicates(installed, planted):
    posterior = planted["posterior"].to_dataset().copy(deep=True)
    for name in ("W", "b"):
        posterior[name].values[..., SPARE] = posterior[name].values[..., 0]
    posterior["V"].values[..., SPARE, :] = 0.5 * posterior["V"].values[..., 0, :]
    groups = {"posterior": posterior, "constant_data": planted["constant_data"].to_dataset()}
    copied = relabel.align(xr.DataTree.from_dict(groups), SPEC)
    _, found = relabel.diagnose(copied, likelihood="poisson_log")
    assert [p["slots"] for p in found.numbers["duplicate_pairs"]] == [[0, SPARE]]
    assert found.numbers["effective_width"]["h"]["median"] == 3


def test_counts_are_taken_for_its_own(installed, planted):
    _, guessed = relabel.diagnose(planted)
    _, named = relabel.diagnose(planted, likelihood="poisson_log")
    assert guessed.numbers == named.numbers


def test_the_class_itself_is_a_likelihood(installed, planted):
    from relabel_example.likelihood import PoissonLog

    _, named = relabel.diagnose(planted, likelihood="poisson_log")
    _, given = relabel.diagnose(planted, likelihood=PoissonLog())
    assert given.numbers == named.numbers


def test_divergence_gradient_and_metric(installed):
    fitted = Fitted(FAMILIES["poisson_log"](), weight=3.0)
    f, g = np.random.default_rng(1).normal(size=(2, 1, 1, 2))
    step = 1e-4 * np.eye(2)
    slope = [(fitted.kl(f, g + s) - fitted.kl(f, g - s))[0] / 2e-4 for s in step]
    np.testing.assert_allclose(fitted.gradient(f, g)[0, 0], slope, rtol=1e-5)
    assert fitted.kl(f, g)[0] == pytest.approx(3 * divergence(f, g))
    counts = np.arange(200)
    p, q = (stats.poisson(np.exp(z[0, 0, 0])) for z in (f, g))
    by_sums = (p.pmf(counts) * (p.logpmf(counts) - q.logpmf(counts))).sum()
    assert fitted.kl(f[..., :1], g[..., :1])[0] == pytest.approx(3 * by_sums)
    turn = [(fitted.gradient(f, f + s) - fitted.gradient(f, f - s))[0, 0] / 2e-4 for s in step]
    np.testing.assert_allclose(fitted.root(f)[0, 0].T @ fitted.root(f)[0, 0], turn, rtol=1e-5)


# ---------------------------------------------------------------------- average


def test_average_is_by_the_predictive_density(installed, planted):
    found = relabel.average(planted, likelihood="poisson_log").loss
    every, x, y = members(planted)
    p = np.array([stats.poisson.pmf(y, np.exp(outputs(draw, x)[:, 0])) for draw in every])
    assert found.measure == "minus the mean log predictive density (poisson_log)"
    np.testing.assert_allclose(found.members, -np.log(p).mean(axis=1))
    assert found.ensemble == pytest.approx(-np.log(p.mean(axis=0)).mean())
    mean = {n: planted["posterior"][n].values.mean(axis=(0, 1)) for n in NAMES}
    logs = stats.poisson.logpmf(y, np.exp(outputs(mean, x)[:, 0]))
    assert found.mean_network == pytest.approx(-logs.mean())


@pytest.mark.parametrize("verb", [relabel.diagnose, relabel.average])
def test_targets_that_are_no_counts(installed, planted, verb):
    for targets in (np.full(N, 0.5), np.full(N, -1)):
        with pytest.raises(SpecError, match="must be non-negative integers"):
            verb(planted, likelihood="poisson_log", targets=targets)


@pytest.mark.parametrize("verb", [relabel.diagnose, relabel.average])
def test_where_it_is_not_installed(planted, verb):
    with pytest.raises(SpecError, match="unknown likelihood family 'poisson_log'; known are bern"):
        verb(planted, likelihood="poisson_log")


# ---------------------------------------------------------------------- commands and the record


@pytest.fixture
def file(planted, tmp_path):
    relabel.save(planted, tmp_path / "aligned.nc")
    return tmp_path / "aligned.nc"


def test_the_commands_take_it(run, installed, planted, file):
    said = run("diagnose", file, "--likelihood", "poisson_log", "--json")
    assert (said.returncode, said.stderr) == (0, "")
    _, found = relabel.diagnose(planted, likelihood="poisson_log")
    assert json.loads(said.stdout) == json.loads(found.to_json())
    said = run("average", file, "--likelihood", "poisson_log", "--json")
    assert (said.returncode, said.stderr) == (0, "")
    average = relabel.average(planted, likelihood="poisson_log")
    assert json.loads(said.stdout) == json.loads(average.to_json())


def test_the_commands_without_it(run, file):
    for verb in ("diagnose", "average"):
        said = run(verb, file, "--likelihood", "poisson_log", installed=False)
        assert said.returncode == 2
        assert "unknown likelihood family 'poisson_log'" in said.stderr


def test_what_it_found_is_read_without_it(run, file, tmp_path):
    found = tmp_path / "found.nc"
    said = run("diagnose", file, "--likelihood", "poisson_log", "-o", found)
    assert (said.returncode, said.stderr) == (0, "")
    data = relabel.open_draws(found)
    assert "Poisson_log targets" in data["relabel"].attrs["relabel"]
    assert "h_removal_loss" in data["relabel"]
    for verb in ("summary", "diagnose"):
        said = run(verb, found, installed=False)
        assert (said.returncode, said.stderr) == (0, "")
    said = run("undo", found, "-o", tmp_path / "undone.nc", installed=False)
    assert (said.returncode, said.stderr) == (0, "")


# ---------------------------------------------------------------------- what it takes


def test_a_family_is_one_file_and_one_line():
    mentions = [
        path.relative_to(SITE).as_posix()
        for path in sorted(SITE.rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and "poisson_log" in path.read_text("utf-8")
    ]
    metadata = "relabel_example-0.1.dist-info/entry_points.txt"
    assert set(mentions) == {metadata, "relabel_example/likelihood.py"}
    points = configparser.ConfigParser()
    points.read(SITE / metadata, encoding="utf-8")
    assert dict(points["relabel.likelihoods"]) == {
        "poisson_log": "relabel_example.likelihood:PoissonLog"
    }
    library = (REPOSITORY / "relabel").rglob("*.py")
    assert not [path for path in library if "poisson_log" in path.read_text("utf-8")]
