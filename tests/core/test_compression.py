import pytest
import torch

from ddpm_app.core.compression import TABLE_4, milestones, paper_row, sent, tenths
from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.schedules import linear_betas

DIFFUSION = GaussianDiffusion(linear_betas(1000), variance_type="learned")


@pytest.mark.parametrize("num_places", [1, 2, 7, 50, 1000, 4000])
def test_the_milestones_hold_both_ends_and_every_row_of_the_table(num_places):
    places = milestones(num_places)
    assert places == sorted(set(places))
    assert {0, num_places - 1, *tenths(num_places)} <= set(places)
    assert places[-1] < num_places
    assert len(places) <= 55


def test_the_rows_are_those_of_table_4():
    assert [1000 - t for t in tenths(1000)] == list(TABLE_4)


def test_what_is_sent_is_one_path_of_q():
    x_0 = torch.full((1, 1, 300, 300), 0.5)
    places = [0, 3, 250, 251, 700, 999]
    path = torch.cat([*sent(DIFFUSION, x_0, places, torch.Generator().manual_seed(0))]).flatten(1).double()
    alpha_bar = DIFFUSION.alphas_cumprod[places].flip(0)
    torch.testing.assert_close(path.mean(1), alpha_bar.sqrt() / 2, rtol=0, atol=0.015)
    # eq. 2: from the earlier x_s to the later x_t only signal is lost and fresh noise added
    earlier, later = (
        torch.maximum(alpha_bar[:, None], alpha_bar),
        torch.minimum(alpha_bar[:, None], alpha_bar),
    )
    expected = (later / earlier).sqrt() * (1 - earlier)
    torch.testing.assert_close(path.cov(), expected, rtol=0.02, atol=0.015)


def test_a_row_of_table_4_stands_beside_what_is_as_far_down_its_own_chain():
    assert paper_row(800, 1000) == TABLE_4[800]
    assert paper_row(3200, 4000) == TABLE_4[800]
    assert paper_row(10, 20) == TABLE_4[500]
    assert paper_row(800, 4000) == TABLE_4[200]
    assert paper_row(801, 1000) == paper_row(1, 7) == ()
