"""What pictures take as real bits, packed by bits-back coding, beside the bound and PNG."""

__all__ = ["CodingSummary", "bits_back", "png_bits"]

import io
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ddpm_app.engine import CodingReport, CodingRequest, Engine
from ddpm_app.pictures import to_picture


@dataclass(frozen=True)
class CodingSummary:
    """Means over the pictures, in bits/dim; `net_bpd` is what each adds to the message.

    The bits borrowed at its beginning are part of `num_bytes`, the whole message, and of `first_num_bytes`,
    that with the first picture alone; `png_bpd` is an optimised PNG file of each, with its header.
    """

    num_images: int
    num_inference_steps: int
    num_exact: int
    net_bpd: float
    bound_bpd: float
    png_bpd: float
    borrowed_bits: int
    first_num_bytes: int
    num_bytes: int


def bits_back(
    engine: Engine,
    pictures: Tensor,
    model: str,
    num_terms: int,
    *,
    variance_type: str = "auto",
    seed: int = 0,
    precision: str = "exact",
) -> Iterator[CodingSummary]:
    """One summary for each of the pictures uint8 (N, C, H, W) that is packed, and one when all came back.

    The chain has `num_terms` steps.
    """
    request = CodingRequest(
        pictures=tuple(pictures),
        model=model,
        num_inference_steps=num_terms,
        variance_type=variance_type,
        seed=seed,
        precision=precision,
    )
    dimensions, known = pictures[0].numel(), 0
    for report in engine.measure(request):
        if len(report.packed) > known or report.step == report.num_steps:
            known = len(report.packed)
            yield _summary(report, request, dimensions)


def _summary(report: CodingReport, request: CodingRequest, dimensions: int) -> CodingSummary:
    packed = report.packed
    return CodingSummary(
        num_images=len(packed),
        num_inference_steps=request.num_inference_steps,
        num_exact=report.num_exact,
        net_bpd=statistics.fmean(each.net_bits for each in packed) / dimensions,
        bound_bpd=statistics.fmean(each.bound_bits for each in packed) / dimensions,
        png_bpd=statistics.fmean(map(png_bits, request.pictures[: len(packed)])) / dimensions,
        borrowed_bits=report.borrowed_bits,
        first_num_bytes=packed[0].num_bytes,
        num_bytes=packed[-1].num_bytes,
    )


def png_bits(picture: Tensor) -> int:
    """The size of an optimised PNG file of the picture, uint8 (C, H, W), in bits."""
    written = io.BytesIO()
    to_picture(picture).save(written, "PNG", optimize=True)
    return 8 * len(written.getvalue())
