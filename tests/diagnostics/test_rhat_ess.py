"""R-hat and ESS of many quantities at once."""

import numpy as np
import pytest

from relabel.diagnostics.kernels.rhat_ess import convergence, effective_size, pointwise

CHAIN = np.repeat([0, 1], 200)


@pytest.mark.parametrize("scale", [1e-6, 0.1, 1.0, 1e6])
def test_the_scale_of_values_makes_no_difference(scale):
    """Values of a range below one move as well as others."""
    values = np.random.default_rng(0).uniform(size=400)
    size = effective_size(values, CHAIN)
    assert size > 200
    assert effective_size(scale * values, CHAIN) == pytest.approx(size)
    draws = values.reshape(2, 200, 1)
    rhat, ess = pointwise(scale * draws)
    np.testing.assert_allclose([rhat, ess], pointwise(draws), rtol=1e-6)
    assert np.isfinite([rhat, ess]).all()
    assert convergence([scale * draws]).ess == pytest.approx(ess[0])


def test_values_that_do_not_move_are_one_for_each_chain():
    assert effective_size(np.full(400, 0.3), CHAIN) == 2
    assert np.isnan(convergence([np.full((2, 200, 1), 0.3)]).rhat)
