"""Elements and losses of all recorded draws are those that were stored."""

import json

import numpy as np
import pytest
from recorded_results import STORED, cases, key_of, result_of

EXPECTED = json.loads(STORED.read_text(encoding="utf-8"))


def test_every_case_is_stored():
    assert set(EXPECTED) == {key_of(case) for case in cases()}


@pytest.mark.parametrize("case", cases(), ids=key_of)
def test_results_are_those_stored(case):
    found, expected = result_of(case), EXPECTED[key_of(case)]
    assert found["elements"] == expected["elements"]
    assert found["n_moved"] == expected["n_moved"]
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-9)
