"""Real runs of every library: draws are bitwise what it holds, aligned, undone and given back."""

import contextlib
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import relabel
from relabel.sources.samples import samples_of

X = np.random.default_rng(0).normal(size=(20, 2))
Y = np.tanh(X[:, 0])
FLAX = {"weight": "nn.Dense_{}.kernel", "bias": "nn.Dense_{}.bias", "first": 0}
NNX = {"weight": "nx.l{}.kernel", "bias": "nx.l{}.bias"}


def check(draws, spec, expected):
    """Draws are those of the library; aligning them does something, which undo takes back."""
    found = samples_of(draws)
    assert set(found) == set(expected)
    for name, given in expected.items():
        values = np.asarray(given)
        assert found[name].dtype == values.dtype
        assert np.array_equal(found[name], values), name
    aligned = relabel.align(draws, spec)
    name = next(iter(spec.axes))
    assert not np.array_equal(aligned["posterior"][name], draws["posterior"][name])
    undone = samples_of(relabel.undo(aligned))
    assert all(np.array_equal(undone[name], found[name]) for name in found)
    return aligned


# NumPyro


@pytest.fixture(scope="module")
def few_optimizations():
    """Programs are small: compiling them takes longer than running them."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def numpyro_run(kernel, n_chains=2, **options):
    import jax
    from numpyro.infer import MCMC

    mcmc = MCMC(
        kernel,
        num_warmup=20,
        num_samples=30,
        num_chains=n_chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.PRNGKey(0), X, Y, **options)
    return mcmc


@pytest.fixture(scope="module")
def modules(few_optimizations):
    """One run of a Flax module and of an NNX module, each fitted to the data."""
    numpyro, jax = pytest.importorskip("numpyro"), pytest.importorskip("jax")
    nn, nnx = pytest.importorskip("flax.linen"), pytest.importorskip("flax.nnx")
    import numpyro.distributions as dist
    from numpyro.contrib.module import random_flax_module, random_nnx_module

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            hidden = nn.Dense(3)(x)  # layers are numbered as they are made
            return nn.Dense(1)(nn.tanh(hidden))

    class New(nnx.Module):
        def __init__(self, rngs):
            self.l1 = nnx.Linear(2, 3, rngs=rngs)
            self.l2 = nnx.Linear(3, 1, rngs=rngs)

        def __call__(self, x):
            return self.l2(jax.numpy.tanh(self.l1(x)))

    linen, new = Linen(), New(nnx.Rngs(0))

    def model(x, y):
        prior = dist.Normal(0, 1)
        nets = (
            random_flax_module("nn", linen, prior=prior, input_shape=(1, 2)),
            random_nnx_module("nx", new, prior=prior),
        )
        with numpyro.plate("unit", 3):
            numpyro.sample("scale", dist.HalfNormal(1))
            numpyro.sample("center", dist.Normal(np.zeros(2), 1).to_event(1))
        with numpyro.plate("data", len(x)):
            for i, net in enumerate(nets):
                numpyro.sample(f"y{i}", dist.Normal(net(x)[:, 0], 0.2), obs=y)

    fields = ("potential_energy", "num_steps", "accept_prob")
    kernel = numpyro.infer.HMC(model, num_steps=3, trajectory_length=None, adapt_mass_matrix=False)
    mcmc = numpyro_run(kernel, n_chains=4, extra_fields=fields)
    return SimpleNamespace(mcmc=mcmc, linen=linen, new=new)


def test_numpyro_with_a_flax_module(modules, tmp_path):
    import jax

    from relabel.sources.numpyro import from_numpyro, to_numpyro

    mcmc = modules.mcmc
    draws = from_numpyro(mcmc, constant_data={"X": X})
    assert draws["posterior/scale"].dims == ("chain", "draw", "unit")
    assert draws["posterior/center"].dims == ("chain", "draw", "unit", "center_dim_1")
    extra = mcmc.get_extra_fields(group_by_chain=True)
    assert np.array_equal(draws["sample_stats/lp"], -np.asarray(extra["potential_energy"]))
    assert set(draws["sample_stats"].data_vars) == {"lp", "n_steps", "acceptance_rate", "diverging"}

    samples = mcmc.get_samples(group_by_chain=True)
    aligned = check(draws, relabel.mlp(1, "tanh", **FLAX), samples)
    relabel.save(aligned, tmp_path / "aligned.nc")
    params = to_numpyro(relabel.open_draws(tmp_path / "aligned.nc"), module="nn")
    apply = jax.jit(jax.vmap(lambda p: modules.linen.apply({"params": p}, X)))
    before, after = apply(to_numpyro(draws, module="nn")), apply(params)
    np.testing.assert_allclose(before, after, atol=1e-5)
    given_back = to_numpyro(relabel.undo(aligned))
    assert all(np.array_equal(given_back[n], v) for n, v in mcmc.get_samples().items())
    dicts = from_numpyro(samples, sample_dims="chain draw")
    assert np.array_equal(
        dicts["posterior/nn.Dense_0.kernel"], draws["posterior/nn.Dense_0.kernel"]
    )


def test_numpyro_with_an_nnx_module(modules):
    import jax
    from flax import nnx

    from relabel.sources.numpyro import from_numpyro, to_numpyro

    draws = from_numpyro(modules.mcmc)
    samples = modules.mcmc.get_samples(group_by_chain=True)
    aligned = check(draws, relabel.mlp(1, "tanh", **NNX), samples)
    params = to_numpyro(aligned, module="nx")
    graph, state = nnx.split(modules.new, nnx.Param)
    nnx.replace_by_pure_dict(state, jax.tree.map(lambda p: p[0], params))
    w = {name: np.asarray(v)[0, 0] for name, v in samples.items()}
    by_hand = np.tanh(X @ w["nx/l1.kernel"] + w["nx/l1.bias"]) @ w["nx/l2.kernel"]
    one = nnx.merge(graph, state)(X)
    np.testing.assert_allclose(one, by_hand + w["nx/l2.bias"], atol=1e-5)


def test_numpyro_ensembles_are_one_chain(few_optimizations):
    numpyro = pytest.importorskip("numpyro")
    import numpyro.distributions as dist

    from relabel.errors import DataError
    from relabel.sources.numpyro import from_numpyro, to_numpyro

    def model(x, y):
        numpyro.sample("mu", dist.Normal(0, 1).expand([2]).to_event(1))

    kernel = numpyro.infer.AIES(model, moves={numpyro.infer.AIES.StretchMove(): 1.0})
    with pytest.raises(DataError, match="has not run yet"):
        from_numpyro(numpyro.infer.MCMC(kernel, num_warmup=1, num_samples=1))
    mcmc = numpyro_run(kernel, n_chains=6)
    draws = from_numpyro(mcmc)
    samples = mcmc.get_samples(group_by_chain=True)
    assert dict(draws["posterior"].sizes) == {"chain": 1, "draw": 180, "mu_dim_0": 2}
    assert np.array_equal(draws["posterior/mu"][0, :6], samples["mu"][:, 0])
    back = to_numpyro(draws, group_by_chain=True)
    assert np.array_equal(back["mu"], samples["mu"])


# PyMC


@pytest.fixture(scope="module")
def pymc_model():
    pm = pytest.importorskip("pymc")
    coords = {"component": ["a", "b"]}
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.normal(-2, 0.5, 20), rng.normal(2, 0.5, 20)])
    with pm.Model(coords=coords) as model:
        mu = pm.Normal("mu", 0, 3, dims="component", initval=[-1, 1])
        sigma = pm.HalfNormal("sigma", 1)
        parts = pm.Normal.dist(mu, sigma, shape=2)
        pm.Mixture("y", w=[0.5, 0.5], comp_dists=parts, observed=y)
    return SimpleNamespace(pm=pm, model=model)


def pymc_sample(case, **options):
    with case.model:
        return case.pm.sample(
            draws=30,
            tune=20,
            chains=2,
            cores=1,
            step=case.pm.Metropolis(),
            random_seed=1,
            progressbar=False,
            compute_convergence_checks=False,
            **options,
        )


@pytest.fixture(autouse=True)
def fast_compile(request):
    if "pymc_model" not in request.fixturenames:
        yield
        return
    import pytensor

    with pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""):
        yield


@pytest.mark.filterwarnings("ignore:Tuning samples will be included")
def test_pymc(pymc_model):
    from relabel.sources.pymc import from_pymc

    trace = pymc_sample(pymc_model, return_inferencedata=False, discard_tuned_samples=False)
    data = pymc_sample(pymc_model, idata_kwargs={"log_likelihood": False})
    assert "sigma_log__" in trace.varnames
    spec = relabel.mixture({"mu": "component"})
    expected = {n: data["posterior"][n].values for n in ("mu", "sigma")}
    passed = from_pymc(data)
    check(_with_a_switch(passed), spec, samples_of(_with_a_switch(passed)))
    laid = from_pymc(trace)
    found = samples_of(laid)
    assert set(found) == {"mu", "sigma"}
    for name, values in expected.items():  # the same seed gives the same draws
        assert np.array_equal(found[name], values)
        stored = np.stack(trace.get_values(name, combine=False))
        assert np.array_equal(stored[:, 20:], found[name])
        assert np.array_equal(stored[:, :20], laid["warmup_posterior"][name])
    for tree in (laid, passed):
        assert tree["posterior/mu"].dims == ("chain", "draw", "component")
        assert tree["posterior"]["component"].values.tolist() == ["a", "b"]


def _with_a_switch(tree):
    """Chains that Metropolis does not let switch, switched."""
    tree = tree.copy()
    mu = tree["posterior/mu"].copy()
    mu[1] = mu[1, :, ::-1].values
    tree["posterior"] = tree["posterior"].assign(mu=mu)
    return tree


def test_pymc_chains_of_unequal_length(pymc_model):
    from pymc.backends.base import MultiTrace

    from relabel.errors import DataError
    from relabel.sources.pymc import from_pymc

    trace = pymc_sample(pymc_model, return_inferencedata=False)
    one, other = (trace._straces[chain] for chain in trace.chains)
    with pytest.raises(DataError, match=r"chain 0 has 30, chain 1 has 25"):
        from_pymc(MultiTrace([one, other[:25]]))


# Stan


def stan_program():
    """The program that prophet brings, compiled by CmdStan."""
    spec = importlib.util.find_spec("prophet")
    if spec is None:
        pytest.skip("prophet is not installed")
    return Path(spec.origin).parent / "stan_model" / "prophet_model.bin"


def test_cmdstanpy_runs(tmp_path):
    cmdstanpy = pytest.importorskip("cmdstanpy")
    from relabel.sources.stan import from_stan

    program = stan_program()
    with contextlib.suppress(AttributeError):
        cmdstanpy.disable_logging()
    season = [1.0, -1.0, 1.0, -1.0]
    data = {
        "T": 4, "K": 2, "t": [0, 0.3, 0.6, 1], "cap": [1] * 4, "y": [1.1, -0.8, 1.3, -0.6],
        "S": 1, "t_change": [0.5], "X": [[s, s] for s in season], "sigmas": [1, 1], "tau": 0.05,
        "trend_indicator": 0, "s_a": [1, 1], "s_m": [0, 0],
    }  # fmt: skip
    (tmp_path / "data.json").write_text(json.dumps(data))
    model = cmdstanpy.CmdStanModel(exe_file=str(program))
    fit = model.sample(
        data=str(tmp_path / "data.json"),
        chains=2,
        parallel_chains=1,
        iter_sampling=40,
        iter_warmup=60,
        save_warmup=True,
        thin=2,
        seed=1,
        show_progress=False,
        show_console=False,
        output_dir=str(tmp_path),
    )
    draws = from_stan(fit)
    expected = {name: _by_chain(fit, values) for name, values in fit.stan_variables().items()}
    check(draws, relabel.Spec({"f": "permutation"}, {"beta": "f"}), expected)
    for name in expected:
        both = _by_chain(fit, fit.stan_variable(name, inc_warmup=True))
        assert np.array_equal(both[:, :30], draws["warmup_posterior"][name])
    assert draws["posterior"].sizes["draw"] == 20
    lp = fit.method_variables()["lp__"]
    assert np.array_equal(draws["sample_stats/lp"], lp[-20:].T)


def test_cmdstanpy_reads_the_same(tmp_path):
    """Matrices, tuples and complex numbers, written in CmdStan's layout."""
    cmdstanpy = pytest.importorskip("cmdstanpy")
    from relabel.sources.stan import from_stan

    source = Path(__file__).parents[1] / "data" / "sources" / "stan_chain_1.csv"
    head = [line for line in source.read_text().splitlines() if line.startswith("#")]
    matrix = [f"S.{i}.{j}" for j in (1, 2, 3) for i in (1, 2)]
    parts = ["t:1", "t:2.1", "t:2.2", "c.1.real", "c.1.imag", "c.2.real", "c.2.imag"]
    stats = [
        "lp__",
        "accept_stat__",
        "stepsize__",
        "treedepth__",
        "n_leapfrog__",
        "divergent__",
        "energy__",
    ]
    columns = stats + matrix + parts
    rng = np.random.default_rng(0)
    for chain in (1, 2):
        table = rng.normal(size=(50, len(columns)))
        table[:, 3:6] = 1
        rows = [",".join(f"{value:.8g}" for value in row) for row in table]
        lines = [*head[:48], ",".join(columns), *head[48:52], *rows, *head[52:], ""]
        (tmp_path / f"m-2026_{chain}.csv").write_text("\n".join(lines))
    fit = cmdstanpy.from_csv(sorted(map(str, tmp_path.glob("*.csv"))))
    draws = from_stan(fit)["posterior"]
    assert np.array_equal(draws["S"], _by_chain(fit, fit.stan_variable("S")))
    assert draws["S"].shape == (2, 50, 2, 3)
    c = _by_chain(fit, fit.stan_variable("c"))
    assert np.array_equal(draws["c.real"], c.real)
    assert np.array_equal(draws["c.imag"], c.imag)
    t = fit.stan_variable("t")
    first = np.array([part[0] for part in t], float).reshape(2, 50)
    assert np.array_equal(draws["t.1"], first)
    second = np.array([part[1] for part in t], float).reshape(2, 50, 2)
    assert np.array_equal(draws["t.2"], second)


def _by_chain(fit, values):
    """CmdStanPy strings chains together."""
    return values.reshape(fit.chains, -1, *values.shape[1:])


# emcee


def test_emcee(tmp_path):
    emcee = pytest.importorskip("emcee")
    from relabel.errors import DataError
    from relabel.sources.emcee import from_emcee, to_emcee
    from relabel.sources.kinds import source_of

    def log_density(theta):
        f = np.tanh(X @ theta[:4].reshape(2, 2) + theta[4:6]) @ theta[6:8] + theta[8]
        return -0.5 * theta @ theta - 0.5 * np.sum((Y - f) ** 2) / 0.04, 1.0

    path = tmp_path / "chain.h5"
    backend = emcee.backends.HDFBackend(str(path))
    sampler = emcee.EnsembleSampler(20, 9, log_density, backend=backend)
    with pytest.raises(DataError, match="no steps"):
        from_emcee(sampler)
    start = np.random.default_rng(1).normal(size=(20, 9))
    sampler.run_mcmc(emcee.State(start, random_state=np.random.RandomState(1).get_state()), 60)
    memory = emcee.EnsembleSampler(20, 9, log_density)
    memory.run_mcmc(emcee.State(start, random_state=np.random.RandomState(1).get_state()), 60)
    layout = {"W1": (2, 2), "b1": (2,), "W2": (2, 1), "b2": (1,)}
    assert source_of(path).name == "emcee"
    for source in (sampler, backend, path, memory, memory.backend):
        for options in ({}, {"discard": 10, "thin": 3}):
            draws = from_emcee(source, layout=layout, **options)
            assert np.array_equal(to_emcee(draws), sampler.get_chain(**options))
            log_prob = sampler.get_log_prob(**options)
            assert np.array_equal(draws["sample_stats/lp"][0], log_prob.ravel())
            assert draws["posterior"].attrs["walkers"] == 20
    draws = from_emcee(sampler, layout=layout)
    aligned = check(draws, relabel.mlp(1, "tanh"), samples_of(draws))
    thetas = to_emcee(aligned)[::20, ::7].reshape(-1, 9)
    raw = sampler.get_chain()[::20, ::7].reshape(-1, 9)
    for one, other in zip(thetas, raw, strict=True):
        np.testing.assert_allclose(log_density(one)[0], log_density(other)[0], rtol=1e-10)


# BlackJAX


def test_blackjax(few_optimizations):
    pytest.importorskip("relabel.sources.pytrees")
    blackjax = pytest.importorskip("blackjax")
    jax = pytest.importorskip("jax")
    from relabel.sources.pytrees import from_pytree, to_pytree

    jnp = jax.numpy

    def log_density(p):
        f = jnp.tanh(X @ p["l1"]["w"] + p["l1"]["b"]) @ p["l2"]["w"] + p["l2"]["b"]
        prior = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))
        return -0.5 * prior - 0.5 * jnp.sum((Y - f[:, 0]) ** 2) / 0.04

    def chain(key):
        kernel = blackjax.nuts(log_density, 0.1, jnp.ones(13), max_num_doublings=3)
        k = jax.random.split(key, 4)
        start = {
            "l1": {"w": jax.random.normal(k[0], (2, 3)), "b": jax.random.normal(k[1], (3,))},
            "l2": {"w": jax.random.normal(k[2], (3, 1)), "b": jnp.zeros(1)},
        }

        def step(state, key):
            state, _ = kernel.step(key, state)
            return state, state.position

        return jax.lax.scan(step, kernel.init(start), jax.random.split(k[3], 40))[1]

    positions = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.PRNGKey(0), 3))
    draws = from_pytree(positions, sample_dims="chain draw")
    spec = relabel.mlp(1, "tanh", weight="l{}.w", bias="l{}.b")
    expected = {f"{a}/{b}": positions[a][b] for a in positions for b in positions[a]}
    aligned = check(draws, spec, expected)
    back = to_pytree(relabel.undo(aligned), like=positions)
    assert jax.tree.structure(back) == jax.tree.structure(positions)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, positions))
    turned = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), positions)
    again = from_pytree(turned, sample_dims="draw chain")
    assert all(np.array_equal(v, samples_of(again)[n]) for n, v in samples_of(draws).items())


# Pyro


def test_pyro():
    pyro = pytest.importorskip("pyro")
    torch = pytest.importorskip("torch")
    import pyro.distributions as dist
    from pyro.infer import HMC, MCMC, Predictive

    from relabel.errors import DataError
    from relabel.sources.pyro import from_pyro

    x, y = torch.tensor(X), torch.tensor(Y)

    def model(y=None):
        w1 = pyro.sample("W1", dist.Normal(torch.zeros(2, 2).double(), 1).to_event(2))
        b1 = pyro.sample("b1", dist.Normal(torch.zeros(2).double(), 1).to_event(1))
        w2 = pyro.sample("W2", dist.Normal(torch.zeros(2, 1).double(), 1).to_event(2))
        f = torch.tanh(x @ w1 + b1) @ w2
        pyro.sample("y", dist.Normal(f[:, 0], 0.2).to_event(1), obs=y)

    def mcmc(step_size):
        kernel = HMC(model, step_size=step_size, num_steps=4, adapt_step_size=False)
        return MCMC(kernel, num_samples=30, warmup_steps=0, num_chains=1, disable_progbar=True)

    pyro.set_rng_seed(0)
    run, other = mcmc(0.05), mcmc(0.05)
    with pytest.raises(DataError, match="has not run yet"):
        from_pyro(run)
    run.run(y)
    other.run(y)
    grouped = run.get_samples(group_by_chain=True)
    assert np.array_equal(from_pyro(run)["posterior/W1"], grouped["W1"])
    both = {name: torch.cat([v, other._samples[name]]) for name, v in grouped.items()}
    spec = relabel.mlp(1, "tanh", bias=["b1", None])
    check(from_pyro(both, sample_dims="chain draw"), spec, both)
    flat = from_pyro(run.get_samples(), sample_dims="draw")
    assert np.array_equal(flat["posterior/W1"][0], run.get_samples()["W1"])
    wild = mcmc(5.0)
    wild.run(y)
    positions = wild.diagnostics()["divergences"]["chain 0"]
    diverging = from_pyro(wild)["sample_stats/diverging"].values
    assert positions
    assert np.flatnonzero(diverging[0]).tolist() == positions
    predicted = Predictive(model, run.get_samples())()
    assert from_pyro(predicted, sample_dims="draw")["posterior/y"].shape == (1, 30, 20)


# TensorFlow Probability


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tfp(few_optimizations):
    jax = pytest.importorskip("jax")
    pytest.importorskip("tensorflow_probability")
    tfp = pytest.importorskip("tensorflow_probability.substrates.jax", exc_type=AttributeError)
    from relabel.sources.tfp import from_tfp

    tfd = tfp.distributions
    y = np.array([-1.0, -1.1, 1.0, 1.2, 0.9], np.float32)

    def log_density(mu, log_sigma):
        parts = tfd.Normal(mu[..., None, :], jax.numpy.exp(log_sigma)[..., None, None])
        fit = jax.nn.logsumexp(parts.log_prob(y[:, None]), axis=-1).sum(axis=-1)
        return fit - (mu**2).sum(axis=-1) - log_sigma**2

    @jax.jit
    def run(key):
        start = [jax.random.normal(key, (3, 2)), jax.numpy.zeros(3)]
        kernel = tfp.mcmc.RandomWalkMetropolis(log_density)
        return tfp.mcmc.sample_chain(
            50, current_state=start, kernel=kernel, trace_fn=None, seed=key
        )

    states = run(jax.random.PRNGKey(0))
    expected = {n: v.swapaxes(0, 1) for n, v in zip(("mu", "sigma"), states, strict=True)}
    check(from_tfp(states, ["mu", "sigma"]), relabel.mixture({"mu": "component"}), expected)
    joint = tfd.JointDistributionSequential([tfd.Normal(np.zeros(2, np.float32), 1.0)])
    drawn = joint.sample((50, 3), seed=jax.random.PRNGKey(1))
    assert np.array_equal(from_tfp(drawn, ["mu"])["posterior/mu"], drawn[0].swapaxes(0, 1))
