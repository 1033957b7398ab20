import pytest
import torch

from ddpm_app.evaluation.growth import GROWTH, Work, measure_growth, network_of
from ddpm_app.training.network import build_unet


@pytest.mark.slow
def test_a_row_has_the_time_of_the_run_and_of_the_bare_network():
    (report,) = measure_growth([Work(num_images=2, num_steps=2, image_size=16)], "cpu")
    assert report.ratio == pytest.approx(report.seconds / report.network_seconds)
    assert report.seconds > 0
    assert report.network_seconds > 0
    assert report.num_parameters > 1e6


def test_the_rows_reach_the_largest_run_the_longest_chain_and_the_paper_s_largest_network():
    assert max(work.num_images for work in GROWTH) == 256
    assert max(work.num_steps for work in GROWTH) == 1000
    assert {(work.image_size, work.large) for work in GROWTH} >= {(28, False), (256, False), (256, True)}


@pytest.mark.parametrize("work", GROWTH, ids=str)
def test_there_is_a_network_for_every_row(work):
    with torch.device("meta"):
        network = build_unet(network_of(work))
    assert network.config.sample_size == work.image_size
