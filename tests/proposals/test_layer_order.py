"""Layers that do not lie in the draws in the order in which they are connected."""

import itertools

import pytest

from relabel.proposals.feedforward import Array
from relabel.proposals.layer_names import read_names


def networks(**sizes):
    """Weights of PyTorch, (out, in, *window), by the names of their layers, as stored."""
    return [
        Array(f"{name.replace('__', '.')}.weight", tuple("abcd"[: len(shape)]), shape)
        for name, shape in sizes.items()
    ]


def connected(arrays):
    """Names of the layers in the order in which they are read, None if they are not connected."""
    reading = read_names(arrays)
    if reading is None:
        return None
    return [reading.writers[node].name for node in sorted(reading.writers)]


ORDERS = {
    # Stored by the alphabet; in natural order the layers fit, by their numbers alone they do not.
    "natural": ("a9 a10 b1", {"a10": (5, 4), "a9": (4, 3), "b1": (2, 5)}),
    "natural in a module": ("b0 c0", {"c0": (5, 4), "b0": (4, 3)}),
    # In natural order they do not fit, by their numbers they do.
    "numbers": ("b1 a2", {"a2": (2, 4), "b1": (4, 3)}),
    # The classifier is last: it is dense after convolutions, and named like an end.
    "dense after convolutions": (
        "conv1 conv2 act0",
        {"act0": (3, 32), "conv1": (4, 1, 3, 3), "conv2": (8, 4, 3, 3)},
    ),
    "an end": ("hid0 hid1 head", {"head": (2, 4), "hid0": (5, 3), "hid1": (4, 5)}),
}


@pytest.mark.parametrize("case", ORDERS)
def test_layers_are_put_in_the_order_that_their_names_show(case):
    expected, stored = ORDERS[case]
    assert connected(networks(**stored)) == expected.split()


def test_the_order_in_the_draws_comes_first():
    """Where every order fits, the doubt is reported, and the layers are read as they are stored."""
    stored = {"b1": (3, 3), "a2": (3, 3)}
    for names in itertools.permutations(stored):
        reading = read_names(networks(**{name: stored[name] for name in names}))
        assert [reading.writers[node].name for node in sorted(reading.writers)] == list(names)
        assert any("more than one order" in doubt for doubt in reading.doubts)
