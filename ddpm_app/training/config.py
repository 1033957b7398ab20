"""What a training run is asked to do, validated once and frozen."""

__all__ = ["ALLOWED", "PLACES", "TrainingConfig"]

from collections.abc import Collection
from dataclasses import MISSING, Field, dataclass, fields
from typing import get_args

from ddpm_app.core.diffusion import PredictionType, VarianceType
from ddpm_app.core.losses import LOSSES
from ddpm_app.core.schedules import SCHEDULES
from ddpm_app.errors import UserError, one_of
from ddpm_app.models.folder import MAX_EDGE, MAX_LAYERS, MAX_LEVELS, MAX_TRAIN_TIMESTEPS

LEARNED = ("learned", "learned_range")
MOST = {  # of a model that is loaded
    "image_size": MAX_EDGE,
    "num_train_timesteps": MAX_TRAIN_TIMESTEPS,
    "layers_per_block": MAX_LAYERS,
}
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", tuple: "whole numbers"}
ALLOWED: dict[str, Collection[str]] = {
    "schedule": SCHEDULES,
    "prediction_type": get_args(PredictionType),
    "variance_type": get_args(VarianceType),
    "objective": LOSSES,
    "timestep_sampling": ("uniform", "importance"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "log_with": ("", "tensorboard", "trackio"),
}
PLACES = ("data", "out", "held_out", "init_from", "guide")  # which another machine may not have


@dataclass(frozen=True)
class TrainingConfig:
    """What to learn from, with which network and objective, and how long; appendix B names the paper's."""

    data: str
    out: str
    # pictures
    image_size: int = 32
    channels: int = 3
    flip: bool = False
    held_out: str = ""  # pictures whose loss is measured and never learned from
    # network
    block_out_channels: tuple[int, ...] = (32, 64, 128, 128)
    layers_per_block: int = 1
    attention_resolutions: tuple[int, ...] = (8, 4)
    attention_head_dim: int = 32  # 0: one head
    norm_num_groups: int = 8
    dropout: float = 0.0
    init_from: str = ""  # a model whose weights to begin with
    # process and objective
    schedule: str = "linear"
    num_train_timesteps: int = 1000
    prediction_type: str = "epsilon"
    variance_type: str = "fixed_large"
    objective: str = "simple"
    timestep_sampling: str = "uniform"
    min_snr_gamma: float = 0.0  # 0: every t alike
    guide: str = ""  # a weaker model: what is learned is the one of init_from, led away from this one
    guidance_scale: float = 2.0  # how far; 1: not at all
    guidance_from: float = 0.0  # from this share of the timesteps on; below, the pictures are learned
    # optimisation
    num_steps: int = 20_000
    batch_size: int = 64  # pictures a step, over all processes and parts
    gradient_accumulation_steps: int = 1  # parts in which each process takes its share
    learning_rate: float = 3e-4
    warmup_steps: int = 200
    final_learning_rate: float = 0.1  # of learning_rate, reached by cosine decay
    ema_decay: float = 0.999
    max_grad_norm: float = 1.0
    precision: str = "auto"
    seed: int = 0
    # reports
    save_every: int = 500
    sample_every: int = 1000
    log_with: str = ""

    def __post_init__(self) -> None:
        for each in fields(self):
            self._check_kind(each)
        for name, allowed in ALLOWED.items():
            one_of(name, getattr(self, name), allowed)
        for name in ("image_size", "num_steps", "batch_size", "save_every", "sample_every"):
            self._at_least(name, 1)
        for name in ("num_train_timesteps", "layers_per_block", "gradient_accumulation_steps"):
            self._at_least(name, 1)
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise UserError(f"{name} must be at most {most}; got {getattr(self, name)}")
        for name in ("warmup_steps", "attention_head_dim"):
            self._at_least(name, 0)
        for name in ("min_snr_gamma", "guidance_scale", "max_grad_norm"):
            self._at_least(name, 0)
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed must lie in 0..2**32 - 1; got {self.seed}")
        for name in ("learning_rate", "final_learning_rate", "ema_decay", "dropout", "guidance_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must be a number in 0..1; got {getattr(self, name)}")
        self._check_network()
        self._check_heads()
        self._check_objective()

    def _check_kind(self, field: Field) -> None:
        """UserError where a value is not of its field's kind, as in a file that was edited by hand."""
        value, kind = getattr(self, field.name), str if field.default is MISSING else type(field.default)
        several = isinstance(value, tuple | list)
        parts = value if several else [value]
        number = int if kind is tuple else kind
        allowed = (int, float) if number is float else number
        alike = all(
            isinstance(part, allowed) and isinstance(part, bool) == (number is bool) for part in parts
        )
        if not alike or several != (kind is tuple):
            raise UserError(f"{field.name} must be {KINDS[kind]}; got {value!r}")

    def _at_least(self, name: str, low: int) -> None:
        if not getattr(self, name) >= low:  # nan is not
            raise UserError(f"{name} must be at least {low}; got {getattr(self, name)}")

    def _check_network(self) -> None:
        if self.channels not in (1, 3):
            raise UserError(f"channels must be 1 or 3; got {self.channels}")
        if not 1 <= len(self.block_out_channels) <= MAX_LEVELS or any(
            width < 1 or width % 32 for width in self.block_out_channels
        ):
            raise UserError(
                f"block_out_channels must be 1 to {MAX_LEVELS} multiples of 32; got {self.block_out_channels}"
            )
        if self.norm_num_groups not in (1, 2, 4, 8, 16, 32):
            raise UserError(f"norm_num_groups must be 1, 2, 4, 8, 16 or 32; got {self.norm_num_groups}")
        shrink = 2 ** (len(self.block_out_channels) - 1)
        if self.image_size % shrink:
            raise UserError(
                f"image_size must be a multiple of {shrink} for this network; got {self.image_size}"
            )

    def _check_heads(self) -> None:
        widths, head = self.block_out_channels, self.attention_head_dim
        attends = [self.image_size // 2**level in self.attention_resolutions for level in range(len(widths))]
        attends[-1] = True  # the middle does, whatever the size
        for width, here in zip(widths, attends, strict=True):
            if here and head and width % head:
                raise UserError(
                    f"attention_head_dim must divide {width}, the width of a level that attends, or be 0 for "
                    f"one head; got {head}"
                )

    def _check_objective(self) -> None:
        learned = self.variance_type in LEARNED
        if learned and self.objective == "simple":
            raise UserError(
                f"objective simple teaches no variance; with variance_type {self.variance_type} "
                "choose hybrid or vlb"
            )
        if not learned and self.objective == "hybrid":
            raise UserError(
                "objective hybrid is for a learned variance; "
                "choose variance_type learned_range, or objective simple"
            )
        if self.guide and (not self.init_from or self.objective != "simple"):
            raise UserError(
                "guide leads the model of init_from away from a weaker one, which objective simple learns; "
                "give both, or no guide"
            )
        if self.min_snr_gamma and self.objective == "vlb":
            raise UserError("min_snr_gamma weighs L_simple; choose objective simple or hybrid, or leave it 0")
