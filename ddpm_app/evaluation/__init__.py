"""Numbers about a model."""

from ddpm_app.evaluation.nll import NllReport, negative_log_likelihood
from ddpm_app.evaluation.reconstruction import ReconstructionReport, reconstruction_errors
from ddpm_app.evaluation.speed import SpeedReport, compare_with_diffusers

__all__ = [
    "NllReport",
    "ReconstructionReport",
    "SpeedReport",
    "compare_with_diffusers",
    "negative_log_likelihood",
    "reconstruction_errors",
]
