"""A small classifier that learns from labelled pictures in CPU minutes, for features without a network.

Everything random follows from a seed. A trained one is kept under the hash of what it learned from, as a
safetensors file that also says what it is; such a file is tensors and words, never code.
"""

__all__ = ["LARGEST_EDGE", "Classifier", "learn", "load_classifier", "save_classifier", "trained_on"]

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_app.core.images import from_uint8
from ddpm_app.errors import UserError
from ddpm_app.evaluation.quality import Features
from ddpm_app.models.cache import cache_folder
from ddpm_app.training.labels import Labelled

WIDTHS = (16, 32, 64)
NUM_FEATURES = 64
LARGEST_EDGE = 32  # larger pictures are looked at in this size
BATCH_SIZE, LEARNING_RATE, STEPS = 128, 3e-3, 800
HELD_OUT, MAX_HELD_OUT = 0.1, 2000
AT_ONCE = 250


@dataclass(frozen=True)
class About:
    """What a classifier's file says of it; `accuracy` is that on pictures held out."""

    data: str
    num_images: int
    num_classes: int
    channels: int
    edge: int
    accuracy: float


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network, what it is, and the hash of its weights."""

    network: nn.Module
    about: About
    fingerprint: str

    def __call__(self, pictures: Tensor) -> Features:
        """Features of uint8 pictures (N, C, H, W) of any size."""
        parts = []
        with torch.inference_mode():
            for some in pictures.split(AT_ONCE):
                parts.append(self.network(_fitted(some, self.about.edge)))
        vectors, logits = map(torch.cat, zip(*parts, strict=True))
        return Features(vectors, logits)

    @property
    def name(self) -> str:
        """What it is, in words that stand beside every figure made with it."""
        about = self.about
        return (
            f"a classifier of {about.num_classes} classes that learned from {about.num_images:,} pictures of "
            f"{about.data} ({about.accuracy:.1%} right on others; {self.fingerprint})"
        )


class Network(nn.Module):
    """Three convolutions, each halved, and a fourth whose mean over the picture is the feature vector."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((channels, *WIDTHS), (*WIDTHS, NUM_FEATURES), strict=False):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            layers += [nn.MaxPool2d(2, ceil_mode=True)] if len(layers) < 4 * len(WIDTHS) else []
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(NUM_FEATURES, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 64) and logits (N, K)."""
        vectors = self.body(x).mean((2, 3))
        return vectors, self.head(vectors)


def trained_on(labelled: Labelled, *, seed: int = 0, steps: int = STEPS) -> Classifier:
    """The classifier of these pictures, from the cache where it has been trained before."""
    *_, found = learn(labelled, seed=seed, steps=steps)
    assert isinstance(found, Classifier)  # the last thing that it yields
    return found


def learn(labelled: Labelled, *, seed: int = 0, steps: int = STEPS) -> Iterator[float | Classifier]:
    """The share of the work that is done, again and again, and at the end the classifier.

    The cache is asked first; where nothing can be written, the work is done anew each time.
    """
    folder = cache_folder("classifiers")
    file = folder / f"{_identity(labelled, seed, steps)}.safetensors" if folder else None
    if file and file.exists():
        yield load_classifier(file)
        return
    shuffled = torch.randperm(len(labelled.labels), generator=torch.Generator().manual_seed(seed))
    count = min(MAX_HELD_OUT, max(1, int(HELD_OUT * len(shuffled))))
    held_out, learned = shuffled[:count], shuffled[count:]
    edge = min(LARGEST_EDGE, labelled.pixels.shape[-1])
    network = _new_network(labelled.pixels.shape[1], labelled.num_classes, seed)
    for step, loss in enumerate(_losses(network, labelled, learned, edge, seed, steps)):
        loss.backward()
        yield (step + 1) / steps
    network.eval().requires_grad_(False)
    right = 0
    with torch.inference_mode():
        for some in held_out.split(AT_ONCE):
            _, logits = network(_fitted(labelled.pixels[some], edge))
            right += (logits.argmax(1) == labelled.labels[some]).sum().item()
    shape = labelled.num_classes, labelled.pixels.shape[1], edge
    about = About(labelled.about, len(learned), *shape, accuracy=right / count)
    made = Classifier(network, about, _fingerprint(network))
    if file:
        with contextlib.suppress(UserError):  # which would lose the work with its copy
            save_classifier(made, file)
    yield made


def save_classifier(classifier: Classifier, file: Path) -> None:
    """Writes the file, whole at any moment; UserError where there is no room for it."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    partial, about = file.with_name(file.name + ".partial"), json.dumps(asdict(classifier.about))
    try:
        save_file(classifier.network.state_dict(), partial, {"classifier": about})
        partial.replace(file)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(
            f"the classifier could not be written ({getattr(error, 'strerror', error)}); "
            "make room and give the same command again"
        ) from error


def load_classifier(file: str | Path) -> Classifier:
    """The classifier in a file that `save_classifier` wrote; UserError where it holds another thing."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as stored:
            about = About(**json.loads(stored.metadata()["classifier"]))
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        network = _new_network(about.channels, about.num_classes, 0)
        network.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{Path(file).name} is no classifier of this program; give one that `evaluate` has written, "
            "labelled pictures to learn from, or inception"
        ) from error
    network.eval().requires_grad_(False)
    return Classifier(network, about, _fingerprint(network))


def _losses(
    network: nn.Module, labelled: Labelled, learned: Tensor, edge: int, seed: int, steps: int
) -> Iterator[Tensor]:
    """The loss of each step; the step itself is taken when the next one is asked for."""
    generator = torch.Generator().manual_seed(seed + 1)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1)
    for _ in range(steps):
        picks = learned[torch.randint(len(learned), (BATCH_SIZE,), generator=generator)]
        _, logits = network(_fitted(labelled.pixels[picks], edge))
        optimizer.zero_grad()
        yield F.cross_entropy(logits, labelled.labels[picks])
        optimizer.step()
        schedule.step()


def _new_network(channels: int, num_classes: int, seed: int) -> Network:
    """Weights from `seed` alone, without touching torch's own generator."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        network = Network(channels, num_classes)
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        else:
            nn.init.zeros_(parameter)
    for layer in network.body:
        if isinstance(layer, nn.GroupNorm):
            nn.init.ones_(layer.weight)
    return network


def _fitted(pictures: Tensor, edge: int) -> Tensor:
    """The pictures as floats at the size that the network looks at."""
    x = from_uint8(pictures)
    if pictures.shape[-2:] == (edge, edge):
        return x
    return F.interpolate(x, (edge, edge), mode="bilinear", antialias=True)


def _identity(labelled: Labelled, seed: int, steps: int) -> str:
    """The hash of all that decides the weights."""
    settings: tuple[Any, ...] = (seed, steps, WIDTHS, BATCH_SIZE, LEARNING_RATE, labelled.about, HELD_OUT)
    found = hashlib.sha256(repr((settings, tuple(labelled.pixels.shape))).encode())
    found.update(labelled.pixels.numpy().tobytes())
    found.update(labelled.labels.numpy().tobytes())
    return found.hexdigest()[:24]


def _fingerprint(network: nn.Module) -> str:
    """The first digits of the hash of the weights."""
    found = hashlib.sha256()
    for weight in network.state_dict().values():
        found.update(weight.contiguous().numpy().tobytes())
    return found.hexdigest()[:8]
