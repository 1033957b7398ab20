"""Requests in, frames out: the one place that owns the device.

from ddpm_app.engine import SampleRequest, run
for frame in run(SampleRequest(model="emoji-32", num_images=16, seed=7)):
    frame.step, frame.num_steps, frame.images
"""

from ddpm_app.engine.branches import BranchRequest, Fork
from ddpm_app.engine.cancel import Cancelled, CancelToken
from ddpm_app.engine.coding import CodingReport, CodingRequest
from ddpm_app.engine.ddim import ReconstructRequest, SlerpGridRequest
from ddpm_app.engine.engine import Engine, run
from ddpm_app.engine.frames import CompressionReport, Frame, LikelihoodReport, Received
from ddpm_app.engine.improved import BoundsReport, BoundsRequest, VarianceReport, VarianceRequest
from ddpm_app.engine.limits import UNLIMITED, Limits, visitors_limits
from ddpm_app.engine.procedures import noise_of
from ddpm_app.engine.requests import (
    REVERSE_VARIANCES,
    CompressionRequest,
    ForwardRequest,
    InterpolateRequest,
    LikelihoodRequest,
    SampleRequest,
    SlerpRequest,
    StochasticRequest,
)
from ddpm_app.engine.solvers import DETERMINISTIC, EVERY_SAMPLER
from ddpm_app.engine.spelling import command_line, flag, snippet
from ddpm_app.engine.visits import visited, visits

__all__ = [
    "DETERMINISTIC",
    "EVERY_SAMPLER",
    "REVERSE_VARIANCES",
    "UNLIMITED",
    "BoundsReport",
    "BoundsRequest",
    "BranchRequest",
    "CancelToken",
    "Cancelled",
    "CodingReport",
    "CodingRequest",
    "CompressionReport",
    "CompressionRequest",
    "Engine",
    "Fork",
    "ForwardRequest",
    "Frame",
    "InterpolateRequest",
    "LikelihoodReport",
    "LikelihoodRequest",
    "Limits",
    "Received",
    "ReconstructRequest",
    "SampleRequest",
    "SlerpGridRequest",
    "SlerpRequest",
    "StochasticRequest",
    "VarianceReport",
    "VarianceRequest",
    "command_line",
    "flag",
    "noise_of",
    "run",
    "snippet",
    "visited",
    "visitors_limits",
    "visits",
]
