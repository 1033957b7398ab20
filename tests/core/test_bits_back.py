import pytest
import torch

from ddpm_app.core.bits_back import latent_grid, pack, unpack
from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.images import to_uint8
from ddpm_app.core.oracle import normal_denoiser
from ddpm_app.core.rans import Message
from ddpm_app.core.schedules import cosine_betas, linear_betas
from tests.doubles import tiny_network

MEAN, STD = 0.1, 0.25
SHAPE = (1, 16, 16)
PICTURES = to_uint8(MEAN + STD * torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0)))


def finished(steps):
    """What the generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize(
    ("schedule", "variance_type"), [(linear_betas, "fixed_large"), (cosine_betas, "fixed_small")]
)
def test_pictures_come_back_bit_for_bit_and_cost_their_bound(schedule, variance_type):
    diffusion = GaussianDiffusion(schedule(1000), variance_type=variance_type)
    chain, denoiser = diffusion.respaced(8, "trailing"), normal_denoiser(diffusion, MEAN, STD)
    message = Message(torch.Generator().manual_seed(1))
    bound = sum(sum(pack(chain, denoiser, picture, message)) for picture in PICTURES)
    # 1,024 pixels at one draw of the latents each
    assert message.num_bits == pytest.approx(bound, rel=0.02)
    again = Message.read(message.written(), torch.Generator().manual_seed(2))
    for picture in reversed(PICTURES):
        assert torch.equal(finished(unpack(chain, denoiser, SHAPE, again)), picture)
    assert again.borrowed == 0
    # what was borrowed is there again: heads, then words
    assert len(again.written()) == message.borrowed_bits // 8


def test_a_network_that_knows_nothing_packs_losslessly_too():
    network = tiny_network(out_channels=6)
    chain = GaussianDiffusion(linear_betas(1000), variance_type="learned_range").respaced(4)

    def denoiser(x_t, t):
        return network(x_t, t, return_dict=False)[0]

    picture = torch.randint(256, (3, 8, 8), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    message = Message(torch.Generator().manual_seed(1))
    assert len(list(pack(chain, denoiser, picture, message))) == 5
    assert torch.equal(finished(unpack(chain, denoiser, (3, 8, 8), message)), picture)


def test_the_grid_resolves_the_narrowest_step_of_its_chain():
    diffusion = GaussianDiffusion(linear_betas(1000))
    for chain in (diffusion.respaced(10), diffusion.respaced(50, "trailing"), diffusion):
        grid = latent_grid(chain)
        assert grid.spacing <= chain.posterior_variance[1:].min().sqrt() / 2
        assert grid.low == -grid.values(torch.tensor([grid.count - 1])).item() - grid.spacing / 2
        exact = grid.values(torch.arange(grid.count))
        assert torch.equal(exact.float().double(), exact)  # the network is told nothing rounded
