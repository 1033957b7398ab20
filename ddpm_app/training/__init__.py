"""Images in, a diffusers folder out."""

from ddpm_app.training.loop import TrainingConfig, train

__all__ = ["TrainingConfig", "train"]
