"""Few-step solvers: diffusers' multistep schedulers as rules, for the same chain and the same loop `reverse`.

A solver remembers the x0-hats of the steps before, so each run makes a rule of its own. It is given x0-hat,
clipped where the chain clips, whatever the network predicts. Sources: Lu et al. (2022), DPM-Solver++,
algorithm 2 and appendix A for its SDE; Zhao et al. (2023), UniPC.
"""

__all__ = ["DETERMINISTIC", "EVERY_SAMPLER", "SOLVERS", "solver"]

from typing import Any

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion, ReverseGaussian
from ddpm_app.core.samplers import SAMPLERS, Draw, Rule
from ddpm_app.models.light import import_diffusers

MULTISTEP = "DPMSolverMultistepScheduler"
SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {  # diffusers' class and its settings
    "dpmsolver++": (MULTISTEP, {"algorithm_type": "dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "sde-dpmsolver++": (MULTISTEP, {"algorithm_type": "sde-dpmsolver++"}),
}
DETERMINISTIC = frozenset({"dpmsolver++", "unipc"})  # they draw x_T and nothing more
EVERY_SAMPLER = (*SAMPLERS, *SOLVERS)
# in place of the infinite one of a chain with zero terminal SNR; its square is a float32 too
LARGEST_SIGMA = 1e15


def solver(name: str, chain: GaussianDiffusion) -> Rule:
    """The solver of that name at the first step of this chain, visiting its timesteps and no others."""
    kind, settings = SOLVERS[name]
    scheduler = getattr(import_diffusers(), kind)(len(chain.trained), prediction_type="sample", **settings)
    sigmas = ((1 - chain.alphas_cumprod) / chain.alphas_cumprod).sqrt().clamp(max=LARGEST_SIGMA)
    # what set_timesteps would set, from our timesteps and float64 tables
    scheduler.num_inference_steps, scheduler.timesteps = len(chain), chain.timesteps.flip(0)
    scheduler.sigmas = torch.cat([sigmas.flip(0), sigmas.new_zeros(1)]).float()

    def rule(chain: GaussianDiffusion, p: ReverseGaussian, x_t: Tensor, i: int, draw: Draw) -> Tensor:
        noise = {}
        if name not in DETERMINISTIC:  # the last step multiplies it by 0
            noise = {"variance_noise": draw() if i else torch.zeros_like(x_t)}
        return scheduler.step(p.pred_x0, scheduler.timesteps[-1 - i], x_t, return_dict=False, **noise)[0]

    return rule
