"""Every row of the table in docs/sources.md, on what the real libraries made."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import relabel
from relabel.data.provenance import Provenance

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
numpyro = pytest.importorskip("numpyro")

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "data" / "sources"
PAGE = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
TABLE = PAGE[: PAGE.index("What comes back")]
ROWS = {
    name: "\n".join(re.findall(r"`([^`]+)`", f"{lines}<br>{back}"))
    for name, lines, back in re.findall(r"^\| (.+?) \| (`.+?) \|(.*) ?\|$", TABLE, re.MULTILINE)
}

LAYOUT = {"W1": (2, 3), "b1": (3,), "W2": (3, 1)}
TANH = relabel.mlp(1, "tanh", bias=["b1", None])
RNG = np.random.default_rng(0)


def copies(n_chains, n_draws, dtype=float):
    """Draws of one tanh network, its units in another order in every draw."""
    base = {name: RNG.normal(size=shape) for name, shape in LAYOUT.items()}
    draws = {name: np.empty((n_chains, n_draws, *shape), dtype) for name, shape in LAYOUT.items()}
    for at in np.ndindex(n_chains, n_draws):
        order, sign = RNG.permutation(3), RNG.choice([-1.0, 1.0], 3)
        noisy = {name: v + 0.01 * RNG.normal(size=v.shape) for name, v in base.items()}
        draws["W1"][at] = noisy["W1"][:, order] * sign
        draws["b1"][at] = noisy["b1"][order] * sign
        draws["W2"][at] = noisy["W2"][order] * sign[:, None]
    return draws


def log_density(p, x, y):
    f = jax.numpy.tanh(x @ p["W1"] + p["b1"]) @ p["W2"]
    return -0.5 * ((y - f[:, 0]) ** 2).sum() - 0.5 * sum((v**2).sum() for v in p.values())


X = RNG.normal(size=(10, 2))
Y = np.tanh(X[:, 0])


def numpyro_mcmc():
    import numpyro.distributions as dist

    def model():
        p = {name: numpyro.sample(name, dist.Normal(np.zeros(s), 1)) for name, s in LAYOUT.items()}
        f = jax.numpy.tanh(X @ p["W1"] + p["b1"]) @ p["W2"]
        numpyro.sample("y", dist.Normal(f[:, 0], 0.5), obs=Y)

    kernel = numpyro.infer.HMC(model, num_steps=2, trajectory_length=None)
    run = numpyro.infer.MCMC(kernel, num_warmup=5, num_samples=20, progress_bar=False)
    run.run(jax.random.PRNGKey(0))
    return run


def pymc_trace():
    pm = pytest.importorskip("pymc")
    with pm.Model():
        mu = pm.Normal("mu", 0, 1, shape=2)
        pm.Normal("y", mu.sum(), 1, observed=0.5)
        options = {"tune": 5, "chains": 2, "cores": 1, "random_seed": 0, "progressbar": False}
        return pm.sample(10, step=pm.Metropolis(), **options)


def cmdstan_fit():
    cmdstanpy = pytest.importorskip("cmdstanpy")
    return cmdstanpy.from_csv([str(RECORDED / f"stan_chain_{i}.csv") for i in (1, 2)])


def pyro_run():
    pyro = pytest.importorskip("pyro")
    from pyro.infer import HMC, MCMC

    def model():
        for name, shape in LAYOUT.items():
            prior = pyro.distributions.Normal(torch.zeros(shape), 1.0)
            pyro.sample(name, prior.to_event(len(shape)))

    pyro.set_rng_seed(0)
    run = MCMC(HMC(model, num_steps=2), num_samples=10, warmup_steps=2, disable_progbar=True)
    run.run()
    return run


def blackjax_positions():
    blackjax = pytest.importorskip("blackjax")

    def chain(key):
        kernel = blackjax.hmc(lambda p: log_density(p, X, Y), 0.1, jax.numpy.ones(12), 2)
        start = {name: jax.numpy.ones(shape) for name, shape in LAYOUT.items()}

        def step(state, key):
            state, _ = kernel.step(key, state)
            return state, state.position

        return jax.lax.scan(step, kernel.init(start), jax.random.split(key, 10))[1]

    return jax.jit(jax.vmap(chain))(jax.random.split(jax.random.PRNGKey(0), 2))


def torch_models():
    torch.manual_seed(0)
    layers = torch.nn.Linear, torch.nn.Tanh
    return [torch.nn.Sequential(layers[0](2, 3), layers[1](), layers[0](3, 1)) for _ in range(4)]


def flax_params(number):
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            hidden = nn.Dense(3)(x)
            return nn.Dense(1)(nn.tanh(hidden))

    return Net().init(jax.random.PRNGKey(number), X[:1])


SEQUENTIAL = relabel.mlp(
    1, "tanh", weight=["0.weight", "2.weight"], bias=["0.bias", "2.bias"], naming="torch"
)
DENSE = relabel.mlp(
    1, "tanh", weight="params.Dense_{}.kernel", bias="params.Dense_{}.bias", first=0
)
STAN = relabel.Spec({"j": "permutation"}, {"beta": "j"})


def save_orbax():
    ocp = pytest.importorskip("orbax.checkpoint")
    with ocp.StandardCheckpointer() as saver:
        for number in range(3):
            saver.save(Path("checkpoints").absolute() / str(number), flax_params(number))


def save_flax():
    serialization = pytest.importorskip("flax.serialization")
    for number in range(2):
        data = serialization.msgpack_serialize(jax.tree.map(np.asarray, flax_params(number)))
        Path(f"net_{number}.msgpack").write_bytes(data)


def save_safetensors():
    library = pytest.importorskip("safetensors.torch")
    Path("run").mkdir()
    for number, model in enumerate(torch_models()):
        library.save_file(model.state_dict(), f"run/net_{number}.safetensors")


def save_arviz():
    tree = relabel.sources.from_dict(copies(2, 5), sample_dims="chain draw")
    tree.to_netcdf("draws.nc", engine="h5netcdf")


def stacked_dict():
    return {"samples": copies(2, 5), "spec": TANH}


#: First words of a row -> what its lines find, by name; files are written into the folder.
MADE = {
    "netCDF": lambda: save_arviz() or {"spec": TANH},
    "an `Inf": lambda: {
        "idata": relabel.sources.from_dict(copies(2, 5), sample_dims="chain draw"),
        "spec": TANH,
    },
    "NumPyro": lambda: {"mcmc": numpyro_mcmc(), "spec": TANH},
    "PyMC": lambda: {"trace": pymc_trace(), "spec": {"mu_dim_0": "permutation"}},
    "Stan: CSV": lambda: (
        [shutil.copy(RECORDED / f"stan_chain_{i}.csv", f"fit_{i}.csv") for i in (1, 2)]
        and {"spec": STAN}
    ),
    "Stan: a fit": lambda: {"fit": cmdstan_fit(), "spec": STAN},
    "BlackJAX": lambda: {"positions": blackjax_positions(), "spec": TANH},
    "a list of pytrees": lambda: {
        "members": [flax_params(i)["params"] for i in range(3)],
        "spec": relabel.mlp(1, "tanh", weight="Dense_{}.kernel", bias="Dense_{}.bias", first=0),
    },
    "Pyro": lambda: {"run": pyro_run(), "spec": TANH},
    "TensorFlow": lambda: {
        "states": [jax.numpy.asarray(v.swapaxes(0, 1)) for v in copies(2, 5).values()],
        "spec": TANH,
    },
    "emcee": lambda: (
        shutil.copy(RECORDED / "emcee.h5", "chain.h5")
        and {
            "layout": {"W1": (1, 2), "b1": (2,), "W2": (2, 1), "b2": (1,)},
            "spec": relabel.mlp(1, "tanh"),
        }
    ),
    "PyTorch: models": lambda: {"models": torch_models(), "spec": SEQUENTIAL},
    "PyTorch: a": lambda: (
        torch.save([m.state_dict() for m in torch_models()], "members.pt") or {"spec": SEQUENTIAL}
    ),
    "safetensors": lambda: save_safetensors() or {"spec": SEQUENTIAL},
    "Flax": lambda: save_flax() or {"spec": DENSE},
    "Orbax": lambda: save_orbax() or {"spec": DENSE},
    "NumPy:": lambda: (
        np.savez("draws.npz", **{k: v[0] for k, v in copies(1, 6).items()}) or {"spec": TANH}
    ),
    "a dictionary": stacked_dict,
    "one flat": lambda: {
        "theta": np.concatenate([v[0].reshape(6, -1) for v in copies(1, 6).values()], axis=1),
        "spec": TANH,
    },
    "Gaussian": lambda: {
        "means": {k: v[0] for k, v in copies(1, 6).items()},
        "sds": {k: np.full((6, *shape), 0.1) for k, shape in LAYOUT.items()},
        "spec": TANH,
    },
}


def test_the_table_is_read_whole():
    assert len(ROWS) == TABLE.count("\n| ") - 1
    assert all(sum(row.startswith(begin) for begin in MADE) == 1 for row in ROWS), list(ROWS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Sharding info not provided")
@pytest.mark.parametrize("row", ROWS)
def test_the_lines_run(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make = next(make for begin, make in MADE.items() if row.startswith(begin))
    names = {"relabel": relabel, **make()}
    before = SimpleNamespace(**names)
    exec(ROWS[row], names)
    aligned, draws = names["aligned"], names.get("draws", names.get("idata"))
    assert Provenance.of(aligned).losses
    back = relabel.undo(aligned)
    for name, values in draws["posterior"].data_vars.items():
        assert np.array_equal(back["posterior"][name], values), name
    for name in {"samples", "positions", "members", "theta"} & vars(before).keys():
        came, went = jax.tree.leaves(names[name]), jax.tree.leaves(getattr(before, name))
        assert [leaf.shape for leaf in came] == [leaf.shape for leaf in went]
        assert not all(map(np.array_equal, came, went))
