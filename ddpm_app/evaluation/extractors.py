"""The network whose features stand for pictures: Inception, one from a file, or a classifier trained here.

A file is a safetensors one in the layout of our own classifier: TorchScript would be somebody's code.
"""

__all__ = ["FEATURES", "Extractor", "chosen", "features_of", "inception"]

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from ddpm_app.errors import UserError
from ddpm_app.evaluation.classifier import LARGEST_EDGE, Classifier, learn, load_classifier
from ddpm_app.evaluation.quality import Features
from ddpm_app.training.data import ImageSet
from ddpm_app.training.labels import SHAPES, load_labelled, tells_classes

FEATURES = (
    "inception; a .safetensors file that an evaluation wrote; labelled pictures, from which a small "
    "classifier learns; or auto: the labels of --data, or those of the drawn shapes where it has none"
)
AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Extractor:
    """`read` turns uint8 pictures into features; `published` where published figures use the same network."""

    name: str
    published: bool
    read: Callable[[Tensor], Features]
    classifier: Classifier | None = None


def chosen(features: str, data: str, images: ImageSet, device: torch.device) -> Iterator[float | Extractor]:
    """The share of the training that is done, where there is any, and at the end the extractor."""
    _, channels, size, _ = images.pixels.shape
    if features == "inception":
        yield inception(device)
        return
    if Path(features).suffix == ".safetensors":
        classifier = load_classifier(features)
        if classifier.about.channels != channels:
            raise UserError(
                f"{Path(features).name} looks at pictures of {classifier.about.channels} channels, the model "
                f"draws {channels}; give another --features"
            )
        yield _of(classifier)
        return
    source = (data if tells_classes(data, len(images.pixels)) else SHAPES) if features == "auto" else features
    known = images if source == data and size <= LARGEST_EDGE else None
    flag = "--data" if features == "auto" else "--features"
    labelled = load_labelled(source, min(size, LARGEST_EDGE), channels, known, flag)
    for each in learn(labelled):
        yield _of(each) if isinstance(each, Classifier) else each


def features_of(extractor: Extractor, pictures: Tensor) -> Iterator[int | Features]:
    """How many of the pictures are read, again and again, and at the end the features of all."""
    parts: list[Features] = []
    for some in pictures.split(AT_ONCE):
        parts.append(extractor.read(some))
        yield sum(map(len, parts))
    yield Features(torch.cat([part.vectors for part in parts]), torch.cat([part.logits for part in parts]))


def inception(device: torch.device) -> Extractor:
    """The network of the published FID, by torch-fidelity, which converted it from TensorFlow bit by bit.

    Its weights are read as tensors alone, whose hash their name tells, before the library opens them.
    """
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as library
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision built for another torch
        raise UserError(
            f"inception needs torch-fidelity ({str(error).splitlines()[0]}): "
            'pip install "torch-fidelity>=0.4,<0.5", or take another --features'
        ) from error
    address = library.URL_INCEPTION_V3
    file = Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlsplit(address).path).name)
    loading: dict[str, Any] = {"progress": False, "check_hash": True, "weights_only": True}
    try:
        torch.hub.load_state_dict_from_url(address, str(file.parent), map_location="cpu", **loading)
    except OSError as error:
        raise UserError(
            f"Inception's weights could not be had ({str(error).splitlines()[0]}); fetch {address} into "
            f"{file.parent} where there is a network, or take another --features"
        ) from error
    except Exception as error:  # what damaged bytes raise here ranges from RuntimeError to KeyError
        raise UserError(
            f"{file} is damaged or holds more than tensors, so it is not opened; delete it, and fetch "
            f"{address} again"
        ) from error
    layers = ["2048", "logits_unbiased"]
    network = library.FeatureExtractorInceptionV3("inception-v3", layers, str(file)).to(device)

    def read(pictures: Tensor) -> Features:
        with torch.inference_mode():
            vectors, logits = network(pictures.expand(-1, 3, -1, -1).to(device))
        return Features(vectors.cpu(), logits.cpu())

    return Extractor("Inception v3 (torch-fidelity, weights of 2015-12-05)", True, read)


def _of(classifier: Classifier) -> Extractor:
    return Extractor(classifier.name, False, classifier, classifier)
