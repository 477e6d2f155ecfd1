"""CSV files of Stan: by CmdStan (tests/data/make_sources_samplers.py), and bad ones."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import stanio
from files import RECORDED

import relabel
from relabel.errors import DataError, FileError
from relabel.sources.kinds import source_of
from relabel.sources.stan import from_stan

SPEC = relabel.Spec({"feature": "permutation"}, {"beta": "feature"})
HEADER = """# stan_version_major = 2
# model = m_model
# method = sample (Default)
#     num_samples = {n}
#     num_warmup = 10
#     save_warmup = false (Default)
#     thin = 1 (Default)
# id = 1
"""


@pytest.fixture(scope="module")
def chains(request):
    folder = RECORDED / "sources"
    return [folder / f"stan_chain_{i}.csv" for i in range(1, 5)]


@pytest.fixture(scope="module")
def folder(chains):
    return chains[0].parent


def by_hand(path):
    """Columns by name, read line by line."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    rows = [[float(value) for value in line.split(",")] for line in lines[1:]]
    return dict(zip(lines[0].split(","), np.array(rows).T, strict=True))


def write(path, columns, rows, n=None, end="\n"):
    lines = [",".join(str(value) for value in row) for row in rows]
    text = HEADER.format(n=len(rows) if n is None else n) + columns + "\n" + "\n".join(lines) + end
    path.write_text(text)
    return path


# What is read


def test_chains_are_read_to_the_bit(chains):
    draws = from_stan(chains)
    for c, path in enumerate(chains):
        columns = by_hand(path)
        for k in range(3):
            assert np.array_equal(draws["posterior/beta"][c, :, k], columns[f"beta.{k + 1}"])
        assert np.array_equal(draws["posterior/sigma_obs"][c], columns["sigma_obs"])
        assert np.array_equal(draws["sample_stats/lp"][c], columns["lp__"])
        assert np.array_equal(draws["sample_stats/n_steps"][c], columns["n_leapfrog__"])
    stats = draws["sample_stats"]
    expected = "lp acceptance_rate step_size tree_depth n_steps diverging energy"
    assert " ".join(stats.data_vars) == expected
    assert stats["diverging"].dtype == bool
    assert stats["tree_depth"].dtype == np.int64
    assert dict(draws["posterior"].sizes) == {
        "chain": 4, "draw": 50, "delta_dim_0": 2, "beta_dim_0": 3, "trend_dim_0": 5
    }  # fmt: skip
    assert "warmup_posterior" not in draws


def test_align_and_undo(chains):
    draws = from_stan(chains)
    aligned = relabel.align(draws, SPEC)
    assert not np.array_equal(aligned["posterior/beta"], draws["posterior/beta"])
    assert np.array_equal(
        np.sort(aligned["posterior/beta"], axis=-1), np.sort(draws["posterior/beta"], axis=-1)
    )
    undone = relabel.undo(aligned)
    for name in draws["posterior"].data_vars:
        assert np.array_equal(undone["posterior"][name], draws["posterior"][name])


def test_a_pattern_takes_files_in_the_order_of_their_numbers(chains, tmp_path):
    order = [10, 2, 1, 11]
    for number, path in zip(order, chains, strict=True):
        (tmp_path / f"chain_{number}.csv").write_bytes(path.read_bytes())
    draws = from_stan(tmp_path / "chain_*.csv")
    names = json.loads(draws["posterior"].attrs["stan_files"])
    assert names == ["chain_1.csv", "chain_2.csv", "chain_10.csv", "chain_11.csv"]
    assert draws.identical(from_stan([tmp_path / name for name in names]))
    assert dict(from_stan(str(tmp_path / "chain_2.csv"))["posterior"].sizes)["chain"] == 1


def test_numbers_anywhere_in_a_path_order_the_files_of_a_pattern(tmp_path):
    """Numbers count as numbers, also in names of folders, and come before what goes on longer."""
    order = ["run_2/fit.csv", "run_2/fit_9.csv", "run_2/fit_10.csv", "run_2/fit_10b.csv",
             "run_10/fit.csv"]  # fmt: skip
    for number, name in enumerate(order):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, "lp__,a", [(-1, number)])
    assert from_stan(tmp_path / "run_*" / "*.csv")["posterior/a"].values.ravel().tolist() == [
        0.0, 1.0, 2.0, 3.0, 4.0
    ]  # fmt: skip


def test_a_relative_pattern(chains, tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_bytes(chains[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    assert from_stan("*.csv")["posterior"].sizes["draw"] == 50


def test_a_file_with_a_bracket_in_its_name(chains, tmp_path):
    path = tmp_path / "fit[1].csv"
    path.write_bytes(chains[0].read_bytes())
    assert from_stan(path)["posterior"].sizes["chain"] == 1


def test_warmup_is_apart(folder):
    draws = from_stan(folder / "stan_warmup.csv")
    columns = by_hand(folder / "stan_warmup.csv")
    assert len(columns["k"]) == 4 + 7  # 10 and 20 draws, every third
    assert np.array_equal(draws["warmup_posterior/k"][0], columns["k"][:4])
    assert np.array_equal(draws["posterior/k"][0], columns["k"][4:])
    assert np.array_equal(draws["warmup_sample_stats/lp"][0], columns["lp__"][:4])
    aligned = relabel.align(draws, SPEC)
    assert np.array_equal(
        relabel.undo(aligned)["warmup_posterior/beta"], draws["warmup_posterior/beta"]
    )


def test_variational_leaves_its_mean_out(folder):
    draws = from_stan(folder / "stan_variational.csv")
    columns = by_hand(folder / "stan_variational.csv")
    assert np.array_equal(draws["posterior/k"][0], columns["k"][1:])
    assert np.array_equal(draws["sample_stats/lp"][0], columns["log_p__"][1:])
    assert np.array_equal(draws["sample_stats/log_q"][0], columns["log_g__"][1:])
    assert draws["posterior"].attrs["stan_method"] == "variational"


def test_the_log_density_is_not_the_column_of_zeros(tmp_path):
    path = write(tmp_path / "a.csv", "log_p__,lp__,log_g__,a", [(-3, 0, -1, 5)])
    assert from_stan(path)["sample_stats/lp"].item() == -3


def test_indices_place_values_in_any_order(tmp_path):
    columns = "lp__,S.2.3,S.1.1,mu,S.2.1,S.1.2,S.2.2,S.1.3"
    path = write(tmp_path / "a.csv", columns, [(-1, 23, 11, 5, 21, 12, 22, 13)])
    posterior = from_stan(path)["posterior"]
    assert posterior["S"].values[0, 0].tolist() == [[11, 12, 13], [21, 22, 23]]
    assert posterior["mu"].shape == (1, 1)


def test_tuples_and_complex_numbers_are_variables_of_their_parts(tmp_path):
    columns = "lp__,x.1:1,x.2:1,x.1:2.1,x.1:2.2,x.2:2.1,x.2:2.2,z.1.real,z.1.imag"
    path = write(tmp_path / "a.csv", columns, [(-1, 1, 2, 121, 122, 221, 222, 3, 4)])
    posterior = from_stan(path)["posterior"]
    assert posterior["x.1"].values[0, 0].tolist() == [1, 2]
    assert posterior["x.2"].values[0, 0].tolist() == [[121, 122], [221, 222]]
    assert posterior["z.real"].item() == 3
    assert posterior["z.imag"].item() == 4


def parts_of(name, values):
    """A variable of stanio as variables of its parts: of tuples, and of complex numbers."""
    if values.dtype.names:
        parts = [parts_of(f"{name}.{number}", values[number]) for number in values.dtype.names]
        return {key: part for found in parts for key, part in found.items()}
    if values.dtype.kind == "c":
        return {f"{name}.real": values.real, f"{name}.imag": values.imag}
    return {name: values}


@pytest.mark.parametrize(
    "columns",
    [
        "mu,S.1.1,S.2.1,S.1.2,S.2.2,S.1.3,S.2.3",
        "z.real,z.imag,v.1.real,v.1.imag,v.2.real,v.2.imag",
        "m.1.1.real,m.1.1.imag,m.2.1.real,m.2.1.imag,m.1.2.real,m.1.2.imag,m.2.2.real,m.2.2.imag",
        "x:1,x:2.1,x:2.2,x:3.real,x:3.imag",
        "x.1:1,x.1:2.1,x.1:2.2,x.2:1,x.2:2.1,x.2:2.2,x.3:1,x.3:2.1,x.3:2.2",
        "x:1,x:2:1,x:2:2.1,x:2:2.2,y",
        "x.1.1:1,x.1.1:2.1.1,x.1.1:2.2.1,x.2.1:1,x.2.1:2.1.1,x.2.1:2.2.1",
    ],
)
def test_names_mean_what_they_mean_to_stanio(columns, tmp_path):
    """In the order of Stan; stanio reads other orders wrongly."""
    names = columns.split(",")
    table = np.random.default_rng(0).normal(size=(5, len(names)))
    rows = [(-1, *map(repr, row.tolist())) for row in table]
    found = from_stan(write(tmp_path / "a.csv", f"lp__,{columns}", rows))["posterior"]
    expected = {}
    for name, values in stanio.stan_variables(
        stanio.parse_header(columns), table, object=False
    ).items():
        expected |= parts_of(name, values)
    assert set(found.data_vars) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name].values[0], values, err_msg=name)


def test_recorded_files_are_read_as_stanio_reads_them(chains):
    header, data = stanio.read_csv([str(path) for path in chains])
    posterior = from_stan(chains)["posterior"]
    for name, values in stanio.stan_variables(stanio.parse_header(header), data).items():
        assert name.endswith("__") or np.array_equal(posterior[name], values)


def test_infinite_imaginary_parts_keep_their_real_parts(tmp_path):
    path = write(tmp_path / "a.csv", "lp__,z.real,z.imag", [(-1, 3, "inf")])
    assert from_stan(path)["posterior/z.real"].item() == 3


def test_numbers_that_are_not_finite(tmp_path):
    path = write(tmp_path / "a.csv", "lp__,a,b", [("-inf", "nan", "inf"), (-1, "-nan", 1e-320)])
    draws = from_stan(path)
    assert np.isnan(draws["posterior/a"]).all()
    assert draws["posterior/b"].values.tolist() == [[np.inf, 1e-320]]


def test_files_are_recognised_by_their_content(chains, folder, tmp_path):
    bare = tmp_path / "bare"
    bare.write_text("lp__,a\n1,2\n")
    for path in (chains[0], folder / "stan_variational.csv", bare):
        assert source_of(path).name == "Stan CSV"
    plain = tmp_path / "table.csv"
    plain.write_text("a,b\n1,2\n")
    (tmp_path / "profile.csv").write_text("name,thread_id,total_time\n")
    for path in (plain, tmp_path / "profile.csv", tmp_path):
        assert source_of(path) is None
    assert source_of(folder / "emcee.h5").name == "emcee"


# What is refused


def cut(path, target, lines=None, characters=None):
    text = path.read_text()
    if lines is not None:
        text = "".join(text.splitlines(keepends=True)[:lines])
    if characters is not None:
        text = text[:characters]
    target.write_text(text)
    return target


def test_a_file_with_fewer_rows_than_it_says(chains, tmp_path):
    path = cut(chains[0], tmp_path / "short.csv", lines=52 + 30)
    with pytest.raises(FileError, match=r"short.csv: cut short: it has 30 of 50 draws; .*truncate"):
        from_stan([path, *chains[1:]])
    draws = from_stan([path, *chains[1:]], truncate=True)
    whole = from_stan(chains)
    assert np.array_equal(draws["posterior/beta"], whole["posterior/beta"][:, :30])
    assert "short.csv has 30" in draws["posterior"].attrs["truncated"]
    assert "truncated" not in whole["posterior"].attrs


@pytest.mark.parametrize("kept", ["-0.5,1", "-0.5,1.23,0.", "-0.5,1.23,0.25"])
def test_a_file_whose_last_line_is_not_whole(tmp_path, kept):
    text = HEADER.format(n=3) + "lp__,a,b\n-1,1,2\n-2,3,4\n" + kept
    (tmp_path / "cut.csv").write_text(text)
    n_found = kept.count(",") + 1
    message = rf"cut.csv: cut short: line 12 has {n_found} of 3 values and no end, after 2 compl"
    with pytest.raises(FileError, match=message):
        from_stan(tmp_path / "cut.csv")
    draws = from_stan(tmp_path / "cut.csv", truncate=True)
    assert draws["posterior/a"].values.tolist() == [[1, 3]]


def test_every_cut_of_a_file_is_noticed(folder, tmp_path):
    """Up to the last number of the last row; what follows are remarks."""
    path = folder / "stan_warmup.csv"
    text = path.read_text()
    last = text.index("\n", text.rindex("\n", 0, text.index("#  Elapsed") - 3) + 1)
    for end in range(200, last, 37):
        short = cut(path, tmp_path / "cut.csv", characters=end)
        with pytest.raises(FileError, match="cut short"):
            from_stan(short)


def test_a_file_that_ends_in_its_warmup(folder, tmp_path):
    path = folder / "stan_warmup.csv"
    first = path.read_text().index("\nlp__")
    lines = path.read_text()[: first + 1].count("\n") + 1
    short = cut(path, tmp_path / "cut.csv", lines=lines + 2)
    with pytest.raises(FileError, match="2 of 4 warm-up draws and 0 of 7 draws"):
        from_stan(short)
    with pytest.raises(DataError, match=r"cut.csv: there are no draws after the warm-up"):
        from_stan(short, truncate=True)


def test_a_damaged_line_in_the_middle(tmp_path):
    path = write(tmp_path / "a.csv", "lp__,a,b", [(-1, 1, 2), (-2, 3), (-3, 5, 6)])
    with pytest.raises(FileError, match=r"line 11 has 2 of 3 values.*the file is damaged"):
        from_stan(path, truncate=True)


def test_text_among_numbers(tmp_path):
    path = write(tmp_path / "a.csv", "lp__,a", [(-1, 1), ("lp__", "a"), (-2, 3)])
    with pytest.raises(FileError, match=r"not all values are numbers: .*lp__"):
        from_stan(path)


def test_two_runs_in_one_file(tmp_path):
    path = write(tmp_path / "a.csv", "lp__,a", [(-1, 1), (-2, 3), (-3, 5)], n=2)
    with pytest.raises(FileError, match=r"3 rows, but its header says 2"):
        from_stan(path)


def test_chains_of_unequal_length(tmp_path):
    one = write(tmp_path / "one.csv", "lp__,a", [(-1, 1), (-2, 3), (-3, 5)])
    other = write(tmp_path / "other.csv", "lp__,a", [(-1, 7), (-2, 9)])
    message = r"differ in length: of draws, \S*one.csv has 3, \S*other.csv has 2; .*truncate=True"
    with pytest.raises(DataError, match=message):
        from_stan([one, other])
    draws = from_stan([one, other], truncate=True)
    assert draws["posterior/a"].values.tolist() == [[1, 3], [7, 9]]


def test_other_columns(tmp_path):
    one = write(tmp_path / "one.csv", "lp__,a.1,a.2", [(-1, 1, 2)])
    other = write(tmp_path / "other.csv", "lp__,a.1", [(-1, 1)])
    for files in ([one, other], [other, one]):
        with pytest.raises(DataError, match=r"different columns: only \S*one.csv has 'a.2'"):
            from_stan(files)
    turned = write(tmp_path / "turned.csv", "lp__,a.2,a.1", [(-1, 1, 2)])
    with pytest.raises(DataError, match="different columns: in another order"):
        from_stan([one, turned])


def test_other_models(chains, tmp_path):
    text = chains[1].read_text().replace("# model = prophet_model", "# model = other_model")
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(DataError, match=r"'prophet_model'.*'other_model'"):
        from_stan([chains[0], tmp_path / "other.csv"])


def test_the_same_chain_twice(chains, tmp_path):
    with pytest.raises(DataError, match="hold the same draws"):
        from_stan([chains[0], chains[1], chains[0]])
    short = cut(chains[0], tmp_path / "short.csv", lines=70)
    with pytest.raises(DataError, match="hold the same draws"):
        from_stan([chains[0], short], truncate=True)


def test_an_optimum_is_no_draw(folder):
    with pytest.raises(FileError, match="method 'optimize', which leaves no draws"):
        from_stan(folder / "stan_optimum.csv")


def test_several_approximations_are_no_chains(folder, tmp_path):
    text = (folder / "stan_variational.csv").read_text()
    (tmp_path / "other.csv").write_text(text.replace("0.", "1."))
    with pytest.raises(DataError, match=r"variational\) are not chains"):
        from_stan([folder / "stan_variational.csv", tmp_path / "other.csv"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("lp__,S.1.1,S.2.2", r"'S' has 2 columns.*\(2, 2\)"),
        ("lp__,S.0,S.1", r"'S' has 2 columns.*\(1,\)"),
        ("lp__,S.1,S.999999999999", "'S' has 2 columns"),
        (f"lp__,S.1,S.{10**30}", "'S' has 2 columns"),
        ("lp__,S.1,S.1.1", "different numbers of indices"),
        ("lp__,S.1,S.1", "two of its columns have the same name"),
    ],
)
def test_columns_that_make_no_array(tmp_path, columns, message):
    path = write(tmp_path / "a.csv", columns, [(-1, 1, 2)])
    with pytest.raises(FileError, match=message):
        from_stan(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a CSV file of Stan"),
        ("a,b\n1,2\n", "not a CSV file of Stan"),
        ("# stan_version_major = 2\n# method = generate_quantities\ny\n1\n", "leaves no draws"),
        ("# stan_version_major = 2\n# num_sam", "cut short: its header"),
        ("# stan_version_major = 2\nlp__,a", "ends in line 2, before any draw"),
        ("lp__,accept_stat__\n-1,0.9\n", "no parameters"),
        ("lp__,a\n", "no draws after the warm-up"),
    ],
)
def test_files_without_draws(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises((FileError, DataError), match=message):
        from_stan(tmp_path / "a.csv")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        from_stan(tmp_path / "none.csv")
    with pytest.raises(FileError, match="no file fits this pattern"):
        from_stan(tmp_path / "none_*.csv")
    with pytest.raises(FileError, match=r"not \[\]"):
        from_stan([])
    with pytest.raises(FileError, match="not int"):
        from_stan(3)
    with pytest.raises(FileError, match=f"{os.sep}.*cannot be read"):
        from_stan(tmp_path)


def test_a_fit_is_read_by_its_files(chains):
    fit = SimpleNamespace(runset=SimpleNamespace(csv_files=[str(path) for path in chains]))
    assert from_stan(fit).identical(from_stan(chains))
