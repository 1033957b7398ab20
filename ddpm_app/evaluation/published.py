"""The papers' figures that a scorecard stands beside; all with Inception's features and averaged weights.

DDPM is Ho et al. (2020), tables 1 and 3; DDIM Song et al. (2020), table 1. FID is of 50,000 samples against
the training set unless another is named.
"""

__all__ = ["PUBLISHED", "Published"]

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One row: what was measured, on which data, drawn how; bits/dim are of the test set."""

    source: str
    data: str
    process: str
    fid: float
    inception_score: str = ""
    bits_per_dim: str = ""


DDIM_STEPS = (10, 20, 50, 100, 1000)
DDIM_CIFAR10 = {
    "DDIM, eta 0": (13.36, 6.84, 4.67, 4.16, 4.04),
    "DDIM, eta 0.2": (14.04, 7.11, 4.77, 4.25, 4.09),
    "DDIM, eta 0.5": (16.66, 8.35, 5.25, 4.46, 4.29),
    "DDIM, eta 1 (fixed_small)": (41.07, 18.36, 8.01, 5.78, 4.73),
    "DDPM, sigma-hat (fixed_large)": (367.43, 133.37, 32.72, 9.99, 3.17),
}
DDIM_CELEBA = (17.33, 13.73, 9.17, 6.53, 3.51)
WHOLE = "DDPM, 1000 steps"

PUBLISHED = (
    Published("DDPM, L_simple", "CIFAR-10", f"{WHOLE}, fixed_large", 3.17, "9.46 ± 0.11", "≤ 3.75"),
    Published("DDPM, L_simple, against the test set", "CIFAR-10", f"{WHOLE}, fixed_large", 5.24),
    Published("DDPM, L", "CIFAR-10", f"{WHOLE}, fixed variance", 13.51, "7.67 ± 0.13", "≤ 3.70"),
    Published("DDPM", "LSUN bedroom 256", f"{WHOLE}, fixed_small", 6.36),
    Published("DDPM", "LSUN church 256", f"{WHOLE}, fixed_small", 7.89),
    Published("DDPM", "LSUN cat 256", f"{WHOLE}, fixed_small", 19.75),
    *(
        Published("DDIM, table 1", "CIFAR-10", f"{process}, {steps} steps", fid)
        for process, row in DDIM_CIFAR10.items()
        for steps, fid in zip(DDIM_STEPS, row, strict=True)
    ),
    *(
        Published("DDIM, table 1", "CelebA 64", f"DDIM, eta 0, {steps} steps", fid)
        for steps, fid in zip(DDIM_STEPS, DDIM_CELEBA, strict=True)
    ),
)
