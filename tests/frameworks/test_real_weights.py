"""Weights that PyTorch, Flax, Orbax and JAX themselves hold and save."""

import copy
import pickle
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import relabel
from relabel import DataError, FileError
from relabel.sources import (
    from_dict,
    from_flax,
    from_pytree,
    from_safetensors,
    from_torch,
    ravel,
    to_pytree,
    to_torch,
    unravel,
)

torch = pytest.importorskip("torch")

DATA = Path(__file__).parents[1] / "data" / "sources"


def network(seed, *, batch_norm=False):
    torch.manual_seed(seed)
    norm = [torch.nn.BatchNorm1d(8)] if batch_norm else []
    layers = [torch.nn.Linear(3, 8), *norm, torch.nn.Tanh(), torch.nn.Linear(8, 1)]
    net = torch.nn.Sequential(*layers).double()
    if batch_norm:
        net(torch.randn(20, 3).double())
    return net.eval()


def equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for name, tensor in other.items():
            assert one[name].dtype == tensor.dtype
            assert one[name].shape == tensor.shape
            assert torch.equal(one[name], tensor)


def states(n=4, **options):
    return [network(i, **options).state_dict() for i in range(n)]


SPEC = relabel.mlp(
    1, "tanh", weight=["0.weight", "2.weight"], bias=["0.bias", "2.bias"], naming="torch"
)


@pytest.fixture
def trap(tmp_path):
    """What runs code when its pickle is loaded; it must not have been in the end."""
    place = tmp_path / "code_was_run"

    class Trap:
        def __reduce__(self):
            return Path.touch, (place,)

    yield Trap()
    assert not place.exists()


# ---------------------------------------------------------------------- objects


def test_modules_aligned_are_the_same_functions():
    nets, x = [network(i) for i in range(6)], torch.randn(30, 3).double()
    aligned = relabel.align(from_torch(nets), SPEC)
    loaded = network(99)
    moved = 0
    for net, state in zip(nets, to_torch(aligned), strict=True):
        loaded.load_state_dict(state)
        torch.testing.assert_close(loaded(x), net(x), rtol=1e-10, atol=1e-12)
        moved += not torch.equal(state["0.weight"], net.state_dict()["0.weight"])
    assert moved >= 5
    equal(to_torch(relabel.undo(aligned)), [net.state_dict() for net in nets])


def test_buffers_and_integers_come_along():
    source = states(batch_norm=True)
    back = to_torch(from_torch(source))
    equal(back, source)
    assert back[0]["1.num_batches_tracked"].dtype == torch.int64
    assert back[0]["1.num_batches_tracked"].shape == ()


def test_chains_of_lists():
    source = states()
    tree = from_torch([source[:2], source[2:]])
    assert dict(tree["posterior"].sizes)["chain"] == 2
    equal(to_torch(tree), source)


def test_stacked_modules():
    nets = [network(i, batch_norm=True) for i in range(3)]
    tree = from_torch(torch.func.stack_module_state(nets))
    equal([dict(sorted(s.items())) for s in to_torch(tree)],
          [dict(sorted(n.state_dict().items())) for n in nets])  # fmt: skip


def test_wrappers_of_modules():
    nets = [torch.nn.DataParallel(network(i)) for i in range(2)]
    tree = from_torch(nets)
    assert "0.weight" in tree["posterior"]
    equal(to_torch(tree), [net.state_dict() for net in nets])
    compiled = [torch.compile(network(i), backend="eager") for i in range(2)]
    assert "0.weight" in from_torch(compiled)["posterior"]


def test_tensors_that_need_gradients():
    tree = from_dict({"w": torch.ones(5, 2, requires_grad=True)}, sample_dims="draw")
    np.testing.assert_array_equal(tree["posterior"]["w"].values[0], np.ones((5, 2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.to("meta"), "is on 'meta'; move all to the cpu"),
        (lambda v: v.half(), "has the dtype torch.float16, .* convert it to float32"),
        (lambda v: v.bfloat16(), "has the dtype torch.bfloat16"),
        (lambda v: v.float(), "in member 0, but float32 of shape .* in member 2"),
        (lambda v: v.to_sparse(), "convert it to an ordinary dense array on the cpu"),
        (lambda v: v[:, :2], "in member 2: members must be of one architecture"),
    ],
)
def test_members_that_cannot_be_compared(change, message):
    source = states()
    source[2]["0.weight"] = change(source[2]["0.weight"])
    with pytest.raises(DataError, match=message):
        from_torch(source)


def test_tensors_without_values():
    source = [{name: value.to("meta") for name, value in state.items()} for state in states()]
    with pytest.raises(DataError, match=r"have values, but '0.weight' of member 0 is on 'meta'"):
        from_torch(source)


def test_a_live_model_is_no_ensemble():
    net, kept, copied = network(0), [], []
    for _ in range(3):
        with torch.no_grad():
            net[0].weight += 1
        kept.append(net.state_dict())
        copied.append(copy.deepcopy(net.state_dict()))
    with pytest.raises(DataError, match=r"the same tensors in memory: .* copy.deepcopy"):
        from_torch(kept)
    equal(to_torch(from_torch(copied)), copied)


def test_one_module_is_no_ensemble():
    with pytest.raises(DataError, match="one module is one draw"):
        from_torch(network(0))


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize("form", ["list", "chains", "mapping", "wrapped", "legacy"])
def test_a_file_of_all_members(form, tmp_path):
    source = states()
    held = {
        "chains": [source[:2], source[2:]],
        "wrapped": {"state_dicts": source},
        "mapping": {f"net_{i}": state for i, state in enumerate(source)},
    }.get(form, source)
    path = tmp_path / "a.pt"
    torch.save(held, path, _use_new_zipfile_serialization=form != "legacy")
    undone = relabel.undo(relabel.align(relabel.open_draws(path), SPEC))
    relabel.save(undone, tmp_path / "b.pt", source=path)
    found = torch.load(tmp_path / "b.pt", weights_only=True)
    if form == "chains":
        for one, other in zip(found, held, strict=True):
            equal(one, other)
    elif form == "mapping":
        assert list(found) == list(held)
        equal(list(found.values()), source)
    else:
        equal(found, source)


def test_the_recorded_file():
    same = relabel.open_draws(DATA / "stacked.npz", sample_dims="draw")["posterior"]
    found = relabel.open_draws(DATA / "ensemble.pt")["posterior"]
    for name in same.data_vars:
        np.testing.assert_array_equal(found[name], same[name])


def test_stacked_tensors_in_a_file(tmp_path):
    stacked, buffers = torch.func.stack_module_state([network(i) for i in range(3)])
    assert not buffers
    stacked = {name: value.detach() for name, value in stacked.items()}
    torch.save(stacked, tmp_path / "a.pt")
    tree = relabel.open_draws(tmp_path / "a.pt", sample_dims="draw")
    relabel.save(tree, tmp_path / "b.pt")
    equal([torch.load(tmp_path / "b.pt")], [stacked])
    assert relabel.open_draws(tmp_path / "a.pt")["posterior"].sizes["draw"] == 1


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_folder_of_members(suffix, tmp_path):
    source = dict(zip((0, 2, 10), states(3), strict=True))
    folder = tmp_path / "run"
    folder.mkdir()
    for number, state in source.items():
        if suffix == ".safetensors":
            pytest.importorskip("safetensors.torch").save_file(
                state, folder / f"m_{number}{suffix}"
            )
        else:
            torch.save({"model_state_dict": state, "epoch": 3}, folder / f"m_{number}{suffix}")
    tree = from_torch(folder)
    assert list(tree["posterior"].coords["member"].values[0]) == ["m_0", "m_2", "m_10"]
    back = to_torch(tree)
    equal([dict(sorted(s.items())) for s in back],
          [dict(sorted(s.items())) for s in source.values()])  # fmt: skip
    relabel.save(tree, tmp_path / f"all{suffix}", source=folder)
    equal(to_torch(relabel.open_draws(tmp_path / f"all{suffix}")), back)


def test_files_of_chains(tmp_path):
    source = states()
    paths = [tmp_path / "chain_0.pt", tmp_path / "chain_1.pt"]
    for path, part in zip(paths, (source[:2], source[2:]), strict=True):
        torch.save(part, path)
    tree = relabel.open_draws(paths)
    assert dict(tree["posterior"].sizes)["chain"] == 2
    equal(to_torch(tree), source)
    torch.save(source[0], paths[1])
    with pytest.raises(DataError, match="some files hold one member and others several"):
        relabel.open_draws(paths)


def test_a_truncated_file(tmp_path):
    torch.save(states(), tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    for length in (len(whole) - 30, len(whole) // 2, 400):
        (tmp_path / "a.pt").write_bytes(whole[:length])
        with pytest.raises(
            FileError, match=r"a\.pt: cannot be read as a file of PyTorch; it is dam"
        ):
            relabel.open_draws(tmp_path / "a.pt")


def test_a_damaged_weight_is_noticed(tmp_path):
    path = tmp_path / "a.pt"
    torch.save([{"w": torch.arange(1000.0)}], path)
    content = bytearray(path.read_bytes())
    place = content.find(np.arange(500, 504, dtype="<f4").tobytes())
    content[place + 2] ^= 64
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)[0]["w"], torch.arange(1000.0))  # it does not notice
    with pytest.raises(FileError, match=r"a.pt: .*cut short \(\d+ bytes\): the checksum of a/data"):
        relabel.open_draws(path)


def test_a_whole_module_is_refused(tmp_path):
    torch.save(network(0), tmp_path / "a.pt")
    with pytest.raises(FileError, match=r"more than weights \(torch.nn.modules.*save_file"):
        relabel.open_draws(tmp_path / "a.pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_is_not_run(trap, legacy, tmp_path):
    torch.save([{"w": trap}], tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(FileError, match=r"holds more than weights .* a pickle runs code"):
        relabel.open_draws(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(trap, 2))
        archive.writestr("archive/version", "3\n")
    with pytest.raises(FileError, match=r"b\.pt: "):
        relabel.open_draws(tmp_path / "b.pt")


def test_what_torch_loads_but_is_no_weights(tmp_path):
    for held in (torch.zeros(3), {"epoch": 3}, [1, 2]):
        torch.save(held, tmp_path / "a.pt")
        with pytest.raises(DataError, match=r"give (the )?state dicts"):
            relabel.open_draws(tmp_path / "a.pt")


# ---------------------------------------------------------------------- safetensors


def test_safetensors_are_those_of_the_library(tmp_path):
    save = pytest.importorskip("safetensors.torch").save_file
    flat = {f"net_{i}.{k}": v for i, s in enumerate(states(batch_norm=True)) for k, v in s.items()}
    flat |= {f"net_{i}.mask": torch.tensor([True, False]) for i in range(4)}
    save(flat, tmp_path / "a.safetensors", metadata={"format": "pt"})
    tree = from_safetensors(tmp_path / "a.safetensors")
    relabel.save(tree, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()


# ---------------------------------------------------------------------- flat vectors


def test_the_order_of_parameters_to_vector():
    nets = [network(i, batch_norm=True) for i in range(3)]
    vector = torch.nn.utils.parameters_to_vector
    theta = torch.stack([vector(net.parameters()) for net in nets]).detach()
    for layout in (nets[0], dict(nets[0].named_parameters())):
        tree = unravel(theta, layout)
        for number, net in enumerate(nets):
            for name, value in net.named_parameters():
                np.testing.assert_array_equal(
                    tree["posterior"][name].values[0, number], value.detach()
                )
        np.testing.assert_array_equal(ravel(tree), theta)
    with pytest.raises(DataError, match=r"the layout has 74 numbers .* the vectors have 57"):
        unravel(theta, nets[0].state_dict())


# ---------------------------------------------------------------------- Flax, Orbax, JAX

Point = namedtuple("Point", "weights scale")


@pytest.fixture(scope="module")
def params():
    linen = pytest.importorskip("flax.linen")
    jax = pytest.importorskip("jax")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            hidden = linen.tanh(linen.Dense(8)(x))
            return linen.Dense(1)(hidden)

    x = np.ones((5, 3), np.float32)
    return Net(), [Net().init(jax.random.key(i), x) for i in range(3)]


def leaves_equal(found, expected):
    import jax

    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def flax_spec(root="params."):
    layers = [f"{root}Dense_{i}" for i in (0, 1)]
    return relabel.mlp(
        1, "tanh", weight=[f"{n}.kernel" for n in layers], bias=[f"{n}.bias" for n in layers]
    )


def test_flax_files(params, tmp_path):
    serialization = pytest.importorskip("flax.serialization")
    _, trees = params
    paths = [tmp_path / f"net_{i}.msgpack" for i in range(3)]
    for path, tree in zip(paths, trees, strict=True):
        path.write_bytes(serialization.to_bytes(tree))
    aligned = relabel.align(relabel.open_draws(paths), flax_spec())
    leaves_equal(to_pytree(relabel.undo(aligned), like=trees), trees)
    relabel.save(aligned, tmp_path / "all.msgpack")
    found = serialization.msgpack_restore((tmp_path / "all.msgpack").read_bytes())
    leaves_equal(list(found.values()), to_pytree(aligned))


def test_what_is_written_is_what_flax_writes(params, tmp_path):
    import jax

    serialization = pytest.importorskip("flax.serialization")
    _, trees = params
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    for name, tree, sample_dims in (("list", trees, None), ("stacked", stacked, "draw")):
        source = tmp_path / f"{name}.msgpack"
        source.write_bytes(serialization.to_bytes(tree))
        relabel.save(
            relabel.open_draws(source, sample_dims=sample_dims),
            tmp_path / "back.msgpack",
            force=True,
        )
        assert (tmp_path / "back.msgpack").read_bytes() == source.read_bytes()


def test_large_arrays_come_in_chunks(monkeypatch, tmp_path):
    serialization = pytest.importorskip("flax.serialization")
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)
    monkeypatch.setattr("relabel.sources.flax._CHUNK", 64)
    tree = {"w": np.arange(60.0).reshape(5, 3, 4), "s": np.arange(5.0)}
    (tmp_path / "a.msgpack").write_bytes(serialization.to_bytes(tree))
    draws = from_flax(tmp_path / "a.msgpack", sample_dims="draw")
    np.testing.assert_array_equal(draws["posterior"]["w"].values[0], tree["w"])
    relabel.save(draws, tmp_path / "b.msgpack")
    assert (tmp_path / "b.msgpack").read_bytes() == (tmp_path / "a.msgpack").read_bytes()


def test_a_training_state(params, tmp_path):
    serialization = pytest.importorskip("flax.serialization")
    optax = pytest.importorskip("optax")
    from flax.training.train_state import TrainState

    net, trees = params
    for i, tree in enumerate(trees):
        state = TrainState.create(apply_fn=net.apply, params=tree["params"], tx=optax.adam(1e-3))
        (tmp_path / f"{i}.msgpack").write_bytes(serialization.to_bytes(state))
    draws = relabel.open_draws([tmp_path / f"{i}.msgpack" for i in range(3)])
    assert set(draws["posterior"].data_vars) == {
        f"params.Dense_{i}.{name}" for i in (0, 1) for name in ("kernel", "bias")
    }


def test_flax_files_that_are_refused(params, tmp_path):
    import jax.numpy as jnp

    serialization = pytest.importorskip("flax.serialization")
    path = tmp_path / "a.msgpack"
    whole = serialization.to_bytes(params[1])
    for length in (1, 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match="damaged or was cut short"):
            from_flax(path)
    path.write_bytes(serialization.to_bytes({"w": jnp.ones(3, jnp.bfloat16)}))
    with pytest.raises(DataError, match="'w' has the dtype bfloat16"):
        from_flax(path, sample_dims="draw")
    path.write_bytes(serialization.to_bytes(params[1][0]))
    with pytest.raises(DataError, match="one member, or are its arrays stacked draws"):
        from_flax(path)


@pytest.mark.parametrize("form", ["stacked", "members", "manager"])
def test_orbax(form, params, tmp_path):
    import jax

    ocp = pytest.importorskip("orbax.checkpoint")
    trees = params[1]
    folder = tmp_path / "run"
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    if form == "manager":
        with ocp.CheckpointManager(folder) as manager:
            for step, tree in zip((0, 9, 10), trees, strict=True):
                manager.save(step, args=ocp.args.StandardSave(tree))
    elif form == "members":
        for step, tree in zip((0, 9, 10), trees, strict=True):
            ocp.PyTreeCheckpointer().save(folder / f"net_{step}", tree)
    else:
        ocp.PyTreeCheckpointer().save(folder, stacked)
    sample_dims = "draw" if form == "stacked" else None
    draws = relabel.open_draws(folder, sample_dims=sample_dims)
    like = stacked if form == "stacked" else trees
    leaves_equal(to_pytree(draws, like=like), like)
    undone = relabel.undo(relabel.align(draws, flax_spec()))
    leaves_equal(to_pytree(undone, like=like), like)


def test_a_damaged_checkpoint(params, tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    ocp.PyTreeCheckpointer().save(tmp_path / "run", params[1][0])
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(FileError, match="cannot be read as a checkpoint of Orbax"):
        from_flax(tmp_path / "run", sample_dims="")


def test_pytrees_of_jax(params):
    import jax

    trees = params[1]
    stacked = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *trees)
    position = Point(stacked, {"sigma": jax.numpy.ones(3)})
    aligned = relabel.align(from_pytree(position, sample_dims="draw"), flax_spec("weights.params."))
    back = to_pytree(aligned, like=position)
    assert isinstance(back.weights["params"]["Dense_0"]["kernel"], jax.Array)
    leaves_equal(to_pytree(relabel.undo(aligned), like=position), position)
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    for i in range(3):
        one = jax.tree.map(lambda leaf: leaf[i], back.weights)  # noqa: B023
        np.testing.assert_allclose(params[0].apply(one, x), params[0].apply(trees[i], x), atol=1e-6)


def test_what_is_registered_with_jax():
    import dataclasses

    import jax

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Layer:
        w: object
        b: object

    draws = [Layer(np.full((2, 3), i), np.full(3, i)) for i in range(4)]
    tree = from_pytree(draws)
    assert set(tree["posterior"].data_vars) == {"w", "b"}
    back = to_pytree(tree, like=draws)
    assert type(back[3]) is Layer
    np.testing.assert_array_equal(back[3].w, draws[3].w)


def test_nnx():
    nnx = pytest.importorskip("flax.nnx")
    import jax

    nets = [nnx.Linear(3, 8, rngs=nnx.Rngs(i)) for i in range(3)]
    found = [nnx.state(net) for net in nets]
    tree = from_pytree(found)
    assert set(tree["posterior"].data_vars) == {"kernel", "bias"}
    leaves_equal(to_pytree(tree, like=found[0]), found)
    nnx.update(nets[0], to_pytree(tree, like=found[0])[2])
    np.testing.assert_array_equal(nets[0].kernel[...], nets[2].kernel[...])
    assert isinstance(nets[0].kernel[...], jax.Array)


def test_the_order_of_ravel_pytree(params):
    jax = pytest.importorskip("jax")
    from jax.flatten_util import ravel_pytree

    trees = params[1]
    theta = np.stack([ravel_pytree(tree)[0] for tree in trees])
    tree = unravel(theta, trees[0])
    np.testing.assert_array_equal(ravel(tree), theta)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    leaves_equal(to_pytree(tree, like=stacked), stacked)


def test_an_ensemble_in_a_file_of_pytorch_averages_as_well(tmp_path):
    """The recorded ensemble as a list of state dicts: the same draws, the same mean network."""
    draws = relabel.open_draws(DATA / "ensemble_10-64-64-1.safetensors")
    torch.save(relabel.sources.to_torch(draws), tmp_path / "members.pt")
    read = relabel.open_draws(tmp_path / "members.pt")
    with np.load(DATA / "ensemble_10-64-64-1_data.npz") as data:
        points = {"inputs": data["X_test"], "targets": data["y_test"]}
    spec = relabel.propose(read, activation="relu").spec
    losses = [
        relabel.average(relabel.align(members, spec, n_perturbations=0), **points).loss
        for members in (draws, read)
    ]
    assert losses[0].mean_network == losses[1].mean_network < 0.61
    assert losses[1].before > 0.8
