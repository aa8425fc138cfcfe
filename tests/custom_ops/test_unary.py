"""Unary trains: a code is emitted as soon as it can, at most so many units a step."""

from __future__ import annotations

import numpy as np
import pytest

from spikec.custom_ops.train import unary


def test_one_spike_a_step_while_any_remains() -> None:
    train = unary(np.array([3, 0, -2, 5]), 4)
    assert train.T.tolist() == [[1, 1, 1, 0], [0, 0, 0, 0], [-1, -1, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize(("steps", "largest"), [(1, 100), (4, 25), (10, 10), (100, 1), (7, 15)])
def test_a_train_adds_up_to_its_code(steps: int, largest: int) -> None:
    code = np.random.default_rng(0).integers(-100, 101, (5, 33))
    train = unary(code, steps, largest)
    assert train.shape == (steps, 5, 33) and np.abs(train).max() == min(largest, 100)
    np.testing.assert_array_equal(train.sum(0), code)
    assert np.all(np.diff(np.abs(train), axis=0) <= 0)
