"""What one picture costs: the variational bound, and what a receiver has after some of its bits."""

__all__ = ["compress", "least_terms", "likelihood", "unasked_terms"]

import math
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise

import torch
from torch import Tensor

from ddpm_app.core.compression import milestones, sent
from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.images import to_uint8
from ddpm_app.core.likelihood import measured, prior_bits, prior_bpd, strata, stratified_sum
from ddpm_app.core.samplers import generators
from ddpm_app.engine.batching import PIXELS_PER_PASS, fair_shares
from ddpm_app.engine.frames import CompressionReport, LikelihoodReport, Received
from ddpm_app.engine.procedures import NOISE_STREAM, fitting
from ddpm_app.engine.requests import AUTO, CompressionRequest, LikelihoodRequest
from ddpm_app.models import Model

TERMS_AT_ONCE = 16  # and fewer of a large picture: one pass of the network, so that news and a Stop come soon


def likelihood(request: LikelihoodRequest, model: Model) -> Iterator[LikelihoodReport]:
    """L_T, L_0 and a stratified sample of the terms between; one report a stratum."""
    chain, x_0, generator = _setting(request, model)
    parts = strata(len(chain), request.num_terms, generator)
    timesteps = [0, *torch.cat([places for places, _ in parts]).tolist()]
    draws = (
        (i, chain.q_sample(x_0, torch.tensor([i]), torch.randn(x_0.shape, generator=generator)))
        for i in timesteps
        for _ in range(request.num_draws)
    )
    terms = _drawn(_terms(chain, model, x_0, draws), request.num_draws)
    prior, (bits, at_0) = prior_bits(chain, x_0)[0], next(terms)
    bits, found = prior + bits, [at_0.mean().item()]
    _, decoder_error = stratified_sum([(at_0[None], 1)])
    total = error = 0.0
    for places, size in parts:
        by_draw = at_0.new_empty(len(places), request.num_draws)
        for place, (term, drawn) in enumerate(islice(terms, len(places))):
            bits = bits + term * (size / len(places))
            by_draw[place] = drawn
        found += by_draw.mean(1).tolist()
        own, own_error = stratified_sum([(by_draw, size)])
        total, error = total + own, math.hypot(error, own_error)
        yield LikelihoodReport(
            step=len(found),
            num_steps=len(timesteps),
            timesteps=tuple(timesteps[: len(found)]),
            terms=tuple(found),
            prior_bpd=prior.mean().item(),
            vb_bpd=total,
            vb_error=error,
            decoder_error=decoder_error,
            bits=bits,
        )


def compress(request: CompressionRequest, model: Model) -> Iterator[CompressionReport]:
    """What has come and what it shows, from x_T down to x_1 (algorithms 3 and 4); a report a picture."""
    chain, x_0, generator = _setting(request, model)
    parts = _between(milestones(len(chain)), request.num_terms, generator)
    timesteps = torch.cat([places for places, _ in parts]).tolist()
    x_t = sent(chain, x_0, timesteps, generator)
    terms = _terms(chain, model, x_0, zip(reversed(timesteps), x_t, strict=True))
    prior, done = prior_bpd(chain, x_0).item(), 0
    rate = error = 0.0
    received: list[Received] = []
    for place, (places, size) in reversed(list(enumerate(parts))):
        drawn = list(islice(terms, len(places)))
        found = torch.tensor([term.mean().item() for term, _ in drawn], dtype=torch.float64)[:, None]
        done += len(drawn)
        if place % 2 == 0:  # a milestone, where what lies above it has been sent
            pred_x0 = drawn[0][1]
            rmse = 127.5 * (pred_x0 - x_0[0]).square().mean().sqrt().item()
            received.append(Received(int(places), prior + rate, error, rmse, found.item(), to_uint8(pred_x0)))
            yield CompressionReport(done, len(timesteps), len(chain), tuple(received))
        own, own_error = stratified_sum([(found, size)])
        rate, error = rate + own, math.hypot(error, own_error)


def least_terms(length: int) -> int:
    """How many timesteps of a chain of that length `compress` measures, if asked for fewer."""
    return sum(len(places) for places, _ in _between(milestones(length), 0, torch.Generator()))


def unasked_terms(request: object, model: Model) -> int:
    """How many terms `compress` measures of this model beyond those that it is asked for."""
    if type(request) is not CompressionRequest:
        return 0
    return max(0, least_terms(len(model.diffusion)) - request.num_terms)


def _setting(request: CompressionRequest, model: Model) -> tuple[GaussianDiffusion, Tensor, torch.Generator]:
    """The chain with the request's variance, the picture (1, C, H, W), and where its noise comes from."""
    chain = model.diffusion
    if request.variance_type != AUTO:
        chain = chain.with_variance(request.variance_type)  # type: ignore[arg-type]
    (generator,) = generators([request.seed ^ NOISE_STREAM])
    return chain, fitting(request.picture, model)[None], generator


def _terms(
    chain: GaussianDiffusion, model: Model, x_0: Tensor, draws: Iterable[tuple[int, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Bits and x0-hat (C, H, W) of each (i, x_t)."""
    fit = PIXELS_PER_PASS[model.device.type] // x_0[0, 0].numel()
    return measured(chain, model.on_cpu, x_0, draws, max(1, min(TERMS_AT_ONCE, fit)))


def _drawn(terms: Iterator[tuple[Tensor, Tensor]], num_draws: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The bits of each term (C, H, W), the mean over its draws, and those of each draw (num_draws,)."""
    while draws := [bits for bits, _ in islice(terms, num_draws)]:
        bits = torch.stack(draws)
        yield bits.mean(0), bits.flatten(1).mean(1)


def _between(kept: list[int], num_terms: int, generator: torch.Generator) -> list[tuple[Tensor, int]]:
    """Every kept place and, in turn with them, a draw from those between it and the next, at least two.

    As (places drawn, how many they stand for): as for `strata`, which gives the sum's standard error.
    """
    sizes = [high - low - 1 for low, high in pairwise(kept)]
    shares = fair_shares(sizes, max(num_terms - len(kept), 2 * len(sizes)))
    parts = []
    for low, size, share in zip(kept, sizes, shares, strict=False):
        drawn = low + 1 + torch.randperm(size, generator=generator)[:share].sort().values
        parts += [(torch.tensor([low]), 1), (drawn, size)]
    return [*parts, (torch.tensor(kept[-1:]), 1)]
