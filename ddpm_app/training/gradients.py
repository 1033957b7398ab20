"""The gradient of a batch, taken in parts: one after the other, or on a CPU side by side.

Inside every operation of a small network the cores of a CPU wait for one another; with a part of the batch
for each they meet once a step.
"""

__all__ = ["Gradients"]

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from ddpm_app.training.batches import Batch

MIN_PART = 4  # images for which a core of their own pays


class Gradients:
    """Adds up the gradient of the mean weighted loss; `losses_of` gives the unweighted loss of each image."""

    def __init__(
        self, accelerator, network: nn.Module, losses_of: Callable[[Batch], Tensor], parts: int
    ) -> None:
        self.accelerator, self.network, self.losses_of, self.parts = accelerator, network, losses_of, parts
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        # dropout draws from one generator, whose order threads would shuffle
        steady = not any(isinstance(module, nn.Dropout) and module.p for module in network.modules())
        alone = accelerator.device.type == "cpu" and accelerator.num_processes == 1
        self.cores = torch.get_num_threads() if alone and steady else 1
        self.pool = ThreadPoolExecutor(self.cores, "gradient")  # its threads begin with their first part

    def add(self, share: Batch) -> Tensor:
        """Adds to .grad what this process's share of a batch gives; returns the losses, unweighted, (B,)."""
        losses = []
        shares = share.parts(self.parts)
        for k, part in enumerate(shares):
            cores = min(self.cores, len(part) // MIN_PART)
            if cores > 1:
                losses.append(self._side_by_side(part.parts(cores), len(share)))
                continue
            last = k == len(shares) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.network):
                own = self.losses_of(part)
                self.accelerator.backward((own * part.weight).sum() / len(share))
                losses.append(own.detach())
        return torch.cat(losses)

    def _side_by_side(self, parts: list[Batch], num_images: int) -> Tensor:
        all_threads = torch.get_num_threads()

        def gradient(part: Batch) -> tuple[Tensor, list[Tensor]]:
            torch.set_num_threads(max(1, all_threads // len(parts)))
            own = self.losses_of(part)
            mean = (own * part.weight).sum() / num_images
            return own.detach(), list(torch.autograd.grad(mean, self.parameters))

        losses, (total, *others) = zip(*self.pool.map(gradient, parts), strict=True)
        for other in others:
            torch._foreach_add_(total, other)
        for parameter, value in zip(self.parameters, total, strict=True):
            parameter.grad = value if parameter.grad is None else parameter.grad + value
        return torch.cat(losses)
