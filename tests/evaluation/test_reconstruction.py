import pytest
import torch

from ddpm_app.evaluation.reconstruction import ReconstructionRow, row


def test_a_row_is_the_mean_error_and_how_far_that_is_to_be_trusted():
    found = row(10, torch.tensor([1.0, 3.0, 1.0, 3.0]))
    assert (found.num_inference_steps, found.mse) == (10, 2)
    assert found.standard_error == pytest.approx((4 / 3) ** 0.5 / 2)
    assert row(10, torch.tensor([2.0])) == ReconstructionRow(10, 2.0, None)
