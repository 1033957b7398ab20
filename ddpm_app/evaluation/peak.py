"""The floating point operations of a network, and the most of them that torch reaches in a second."""

__all__ = ["flops_per_image", "peak_flops"]

import statistics
import time
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

SIDE = 1024  # of the matrices; large enough for full speed, small enough for a fraction of a second


def flops_per_image(network: nn.Module, image_shape: Sequence[int]) -> int:
    """Floating point operations of a diffusers network on one image (C, H, W), counted by torch."""
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, *image_shape, device=device), torch.zeros(1, device=device))
    return counter.get_total_flops()


def peak_flops(device: torch.device, dtype: torch.dtype = torch.float32, rounds: int = 9) -> float:
    """Floating point operations a second in a product of two square matrices, the median of `rounds`."""
    a, b = torch.randn(2, SIDE, SIDE, device=device, dtype=dtype)
    seconds = []
    for _ in range(rounds + 2):  # the first two warm up
        started = time.perf_counter()
        product = a @ b
        product[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 2 * SIDE**3 / statistics.median(seconds[2:])
