"""What one run may take where strangers ask; on one's own machine, anything.

Work is counted in floating-point operations of the network: images times steps times what one image costs,
which grows with its pixels and with the network. So the same budget is fair to every model.
"""

__all__ = ["UNLIMITED", "Limits", "visitors_limits"]

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Context, Decimal
from pathlib import Path

import torch

from ddpm_app.errors import UserError
from ddpm_app.models import Model

# of one run: two to three minutes of a free CPU, about one of a small GPU
OPERATIONS = {"cpu": 7e12, "mps": 3e13, "cuda": 2e14}  # on the CPU for each core
OPERATIONS_PER_PIXEL = 2e4  # of a step itself, which is all that a model without a network costs
PATIENCE = 120.0  # seconds for one pass of the network
ROUNDED_DOWN = Context(prec=2, rounding=ROUND_DOWN)  # what is said to be allowed is, however little
CGROUP = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Limits:
    """The models that may be used, where they are listed; the operations of one run; seconds for one pass."""

    models: tuple[str, ...] = ()
    operations: float = math.inf
    patience: float = math.inf

    @property
    def public(self) -> bool:
        """Whether strangers ask."""
        return self.operations < math.inf

    def admit(self, model: str) -> None:
        """UserError for a model that is not on the list, before anything looks for it."""
        if self.public and model not in self.models:
            raise UserError(
                f"{str(model)[:80]!r} is not among the models of this public page; choose one of "
                f"{', '.join(self.models)}, or run the app on your own machine"
            )

    def share(self, calls: int, model: Model, per_value: float = 0.0) -> float:
        """The part of the budget that so many uses of the network take, an image each.

        `per_value` are operations of a single core for each of the image's values, which each takes besides.
        """
        if not self.public:
            return 0.0
        pixels = model.image_shape[1] * model.image_shape[2]
        beside = per_value * math.prod(model.image_shape) / OPERATIONS["cpu"]
        return calls * (max(model.operations(), OPERATIONS_PER_PIXEL * pixels) / self.operations + beside)

    def check(self, share: float) -> None:
        """UserError for more than the whole budget."""
        if share > 1:
            times, percent = Decimal(f"{share:.3g}"), ROUNDED_DOWN.create_decimal(100 / share)
            raise UserError(
                f"this run takes {times:f} times the work that one may take on this public page; ask for "
                f"fewer images, steps or terms, {percent:f} % of them in all, or run the app on your own "
                "machine, where nothing is limited"
            )


UNLIMITED = Limits()


def visitors_limits(devices: Iterable[torch.device], models: Sequence[str]) -> Limits:
    """What visitors of a public page may take of the slowest of these devices."""
    budgets = [OPERATIONS[device.type] * (cores() if device.type == "cpu" else 1) for device in devices]
    return Limits(tuple(models), min(budgets), PATIENCE)


def cores(cgroup: Path = CGROUP) -> float:
    """The cores that torch computes on, no more than the container is given."""
    try:
        quota, period = cgroup.read_text().split()
        given = math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        given = math.inf
    return min(torch.get_num_threads(), os.cpu_count() or 1, given)
