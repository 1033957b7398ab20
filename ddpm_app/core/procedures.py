"""The paper's other uses of the chain: one frozen x_t with many x_0, and interpolation in x_t.

Source: Ho, Jain and Abbeel (2020), sections 4.3 and 4.4; the sphere from Song et al. (2020), eq. 67.
"""

__all__ = ["lower_part", "mix", "slerp", "slerp_grid", "through"]

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion


def through(chain: GaussianDiffusion, t: int) -> GaussianDiffusion:
    """The same chain, made to visit trained timestep `t` as well."""
    visited = chain.timesteps.tolist()
    return chain if t in visited else chain.respaced(sorted([*visited, t]))


def lower_part(chain: GaussianDiffusion, t: int) -> GaussianDiffusion:
    """The part of the chain that leads from x_t to x_0: the visited timesteps up to and including `t`."""
    return chain.respaced([visited for visited in through(chain, t).timesteps.tolist() if visited <= t])


def mix(x_a: Tensor, x_b: Tensor, weights: Tensor) -> Tensor:
    """(1 - lambda) x_a + lambda x_b of two images (C, H, W) for each of `weights` (L,): (L, C, H, W).

    Section 4.4 mixes x_t and x_t'; the x_0 and x_0' printed there are a slip.
    """
    weights = weights.view(-1, 1, 1, 1)
    return (1 - weights) * x_a + weights * x_b


def slerp(x_a: Tensor, x_b: Tensor, weights: Tensor) -> Tensor:
    """The great circle from x_a to x_b (C, H, W) at each of `weights` (L,): (L, C, H, W)."""
    cosine = torch.nn.functional.cosine_similarity(x_a.flatten(), x_b.flatten(), dim=0)
    angle = cosine.clamp(-1, 1).acos()
    if angle < 1e-4:  # the ends agree, and the circle is a point
        return mix(x_a, x_b, weights)
    weights = weights.view(-1, 1, 1, 1)
    return (((1 - weights) * angle).sin() * x_a + (weights * angle).sin() * x_b) / angle.sin()


def slerp_grid(corners: Tensor, weights: Tensor) -> Tensor:
    """The sphere between four x_T (4, C, H, W), in reading order: (L * L, C, H, W), row by row.

    Song et al. (2020), appendix D.5: along two sides by the same weights, then from one side to the other.
    """
    left, right = slerp(corners[0], corners[2], weights), slerp(corners[1], corners[3], weights)
    return torch.cat([slerp(a, b, weights) for a, b in zip(left, right, strict=True)])
