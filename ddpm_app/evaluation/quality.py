"""How near samples are to data, from the features of both (N, D): distances that know nothing of pictures.

FID is Heusel et al. (2017), eq. 6; the Inception Score Salimans et al. (2016), section 4; precision and
recall Kynkäänniemi et al. (2019), eq. 1 and 2. With the features of another network than Inception the same
formulas give numbers on another scale: whoever tells them names the network.
"""

__all__ = [
    "Features",
    "Quality",
    "frechet_distance",
    "inception_score",
    "moments",
    "precision_recall",
    "quality",
    "some",
]

from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOURS = 3  # k of precision and recall, as in the paper's own experiments
SPLITS, SPLIT_SIZE = 10, 500  # of the Inception Score; fewer pictures than their product are one split
BLOCK = 1024  # rows of a distance matrix that are in memory at a time


@dataclass(frozen=True)
class Features:
    """What a network makes of N pictures: `vectors` (N, D), and the `logits` (N, K) of its classes."""

    vectors: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, places: Tensor) -> "Features":
        return Features(self.vectors[places], self.logits[places])


@dataclass(frozen=True)
class Quality:
    """Every measure of `num_images` pictures against `num_reference` of the data.

    Precision and recall compare equally many of both, `num_compared`. The Inception Score's deviation is that
    between its splits, None where there is one alone.
    """

    num_images: int
    num_reference: int
    num_compared: int
    fid: float
    inception_score: float
    inception_score_deviation: float | None
    precision: float
    recall: float


def quality(ours: Features, data: Features) -> Quality:
    """All measures of our pictures against those of the data; at least two of each."""
    compared = min(len(ours), len(data))
    score, deviation = inception_score(ours.logits)
    precision, recall = precision_recall(
        data.vectors[some(len(data), compared)], ours.vectors[some(len(ours), compared)]
    )
    fid = frechet_distance(*moments(ours.vectors), *moments(data.vectors))
    return Quality(len(ours), len(data), compared, fid, score, deviation, precision, recall)


def moments(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of the rows (N, D), in float64."""
    vectors = vectors.double()
    return vectors.mean(0), vectors.T.cov()


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), in float64.

    The root's trace is that of (C_a^(1/2) C_b C_a^(1/2))^(1/2), which is symmetric: no complex roots arise,
    and covariances of fewer rows than columns are no special case.
    """
    mean_a, cov_a, mean_b, cov_b = (each.double() for each in (mean_a, cov_a, mean_b, cov_b))
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = root @ cov_b @ root
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(0.0, distance.item())  # of two equal sets the rounding may leave less


def inception_score(logits: Tensor) -> tuple[float, float | None]:
    """exp E KL(p(y | x) || p(y)) of the classes of (N, K) logits: its mean over 10 splits, and deviation.

    Between 1, when all pictures look alike to the classes, and K. Of fewer than 5,000 pictures one split is
    taken: splits too small bias it downwards.
    """
    classes = logits.double().softmax(1)
    scores = []
    for p in classes.tensor_split(SPLITS if len(classes) >= SPLITS * SPLIT_SIZE else 1):
        divergence = torch.special.xlogy(p, p) - torch.special.xlogy(p, p.mean(0))
        scores.append(divergence.sum(1).mean().exp())
    found = torch.stack(scores)
    return found.mean().item(), found.std(correction=0).item() if len(found) > 1 else None


def precision_recall(real: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """The share of generated rows within the manifold of the real ones, and the reverse.

    The manifold of a set is the union of the balls around its rows that just reach their k-th neighbour.
    """
    real, generated = real.double(), generated.double()
    return _share_within(generated, real, neighbours), _share_within(real, generated, neighbours)


def _share_within(rows: Tensor, manifold: Tensor, neighbours: int) -> float:
    nearest = min(neighbours + 1, len(manifold))  # each row is its own nearest
    radii = torch.cat(
        [torch.cdist(block, manifold).kthvalue(nearest).values for block in manifold.split(BLOCK)]
    )
    within = [(torch.cdist(block, manifold) <= radii).any(1) for block in rows.split(BLOCK)]
    return torch.cat(within).double().mean().item()


def some(count: int, wanted: int) -> Tensor:
    """`wanted` of `count` places, always the same ones, and in no order that the data could have too."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:wanted]
