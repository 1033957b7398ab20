"""Images in, a diffusers folder out."""

from ddpm_app.training.config import TrainingConfig
from ddpm_app.training.loop import train
from ddpm_app.training.reports import Progress

__all__ = ["Progress", "TrainingConfig", "train"]
