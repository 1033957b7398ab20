"""A picture as bits, losslessly: bits-back coding through the diffusion chain, whose net length is the bound.

Latents x_1 .. x_T of the chain lie on a fixed grid. The sender *pops* x_1 from the message, as if
q(x_1 | x_0) had written it, pushes x_0 by p(x_0 | x_1), pops x_2 by q(x_2 | x_1), pushes x_1 by p(x_1 | x_2)
and so on, and at the end pushes x_T by N(0, I). Whoever unpacks goes the other way, and so gives back what
was drawn. What was added is -log p less -log q: on average L_T + L_{t-1} + ... + L_0, but for the grid.

Unpacking wants the network to answer bit for bit as it did: the same machine, the same arithmetic, a picture
at a time. Sources: Townsend et al. (2019), "BB-ANS"; Kingma et al. (2019), "Bit-Swap", whose order this is.
"""

__all__ = ["latent_grid", "pack", "unpack"]

import math
from collections.abc import Generator, Iterator

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion, ReverseGaussian
from ddpm_app.core.images import from_uint8
from ddpm_app.core.likelihood import bound_bits, prior_bits
from ddpm_app.core.rans import LEVELS, Grid, Message
from ddpm_app.core.samplers import Denoiser

REACH = 6  # x_t beyond lies in the open bins at the ends
BINS_PER_DEVIATION = 2  # of the narrowest normal of the chain
FINEST = 2.0**-12


def latent_grid(chain: GaussianDiffusion) -> Grid:
    """A grid fine enough for every step of the chain, its spacing a power of 2."""
    narrowest = min(chain.betas.min(), chain.posterior_variance[1:].min()).sqrt().item()
    spacing = max(FINEST, 2.0 ** math.floor(math.log2(narrowest / BINS_PER_DEVIATION)))
    return Grid(-REACH, spacing, round(2 * REACH / spacing))


def pack(chain: GaussianDiffusion, denoiser: Denoiser, picture: Tensor, message: Message) -> Iterator[float]:
    """Lays a picture uint8 (C, H, W) on the message; the bits that each step would cost ideally, T + 1 terms.

    They are L_0, L_1 .. and L_T at the x_t of this message.
    """
    grid, shape = latent_grid(chain), (1, *picture.shape)
    x_0 = from_uint8(picture)[None]
    below, bins = picture.flatten().long(), LEVELS
    for i in range(len(chain)):
        places = message.pop(grid, *_forward(chain, i, bins.values(below)), stirred=True)
        x_t = grid.values(places).float().view(shape)
        p = _reverse(chain, denoiser, x_t, i)
        message.push(bins, below, *_normal(p, shape))
        below, bins = places, grid
        yield bound_bits(chain, p, x_0, x_t, torch.tensor([i])).sum().item()
    message.push(grid, below, *_prior(below))
    yield prior_bits(chain, x_0).sum().item()


def unpack(
    chain: GaussianDiffusion, denoiser: Denoiser, shape: tuple[int, int, int], message: Message
) -> Generator[int, None, Tensor]:
    """Takes a picture uint8 (C, H, W) off the message; on the way the number of each step."""
    grid = latent_grid(chain)
    places = message.pop(grid, *_prior(torch.zeros(math.prod(shape))))
    for i in reversed(range(len(chain))):
        p = _reverse(chain, denoiser, grid.values(places).float().view(1, *shape), i)
        bins = grid if i else LEVELS
        below = message.pop(bins, *_normal(p, (1, *shape)))
        message.push(grid, places, *_forward(chain, i, bins.values(below)), stirred=True)
        places = below
        yield len(chain) - i
    return places.to(torch.uint8).view(shape)


def _forward(chain: GaussianDiffusion, i: int, x_prev: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of q(x_t | x_{t-1}) (eq. 2), whose x_{t-1} at place 0 is x_0."""
    return chain.alphas[i].sqrt() * x_prev, chain.betas[i].sqrt().expand_as(x_prev)


def _reverse(chain: GaussianDiffusion, denoiser: Denoiser, x_t: Tensor, i: int) -> ReverseGaussian:
    with torch.inference_mode():
        return chain.p_mean_variance(denoiser(x_t, chain.timesteps[[i]]), x_t, torch.tensor([i]))


def _normal(p: ReverseGaussian, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return p.mean.double().flatten(), (p.log_variance.double() / 2).exp().expand(shape).flatten()


def _prior(like: Tensor) -> tuple[Tensor, Tensor]:
    zeros = torch.zeros(like.shape, dtype=torch.float64)
    return zeros, zeros + 1
