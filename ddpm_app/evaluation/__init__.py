"""Numbers about a model."""

from ddpm_app.evaluation.coding import CodingSummary, bits_back, png_bits
from ddpm_app.evaluation.nll import NllReport, negative_log_likelihood
from ddpm_app.evaluation.rate_distortion import RateDistortionReport, rate_distortion
from ddpm_app.evaluation.reconstruction import ReconstructionReport, reconstruction
from ddpm_app.evaluation.speed import SpeedReport, compare_with_diffusers
from ddpm_app.evaluation.steps import StepsReport, few_steps

__all__ = [
    "CodingSummary",
    "NllReport",
    "RateDistortionReport",
    "ReconstructionReport",
    "SpeedReport",
    "StepsReport",
    "bits_back",
    "compare_with_diffusers",
    "few_steps",
    "negative_log_likelihood",
    "png_bits",
    "rate_distortion",
    "reconstruction",
]
