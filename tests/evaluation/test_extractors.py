import sys
import types

import pytest
import torch

from ddpm_app.evaluation import classifier, extractors
from ddpm_app.evaluation.classifier import save_classifier, trained_on
from ddpm_app.evaluation.extractors import chosen, features_of, inception
from ddpm_app.training.data import ImageSet
from tests.doubles import refusal

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", 2)
    monkeypatch.setattr(extractors, "learn", lambda labelled: classifier.learn(labelled, steps=2))


@pytest.fixture
def library(monkeypatch, tmp_path):
    """torch-fidelity as far as it is used, with a network of one layer; and what was asked of it."""
    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.URL_INCEPTION_V3 = "https://host/weights-inception-2015-12-05-6726825d.pth"
    module.asked = []

    class Network(torch.nn.Module):
        def __init__(self, name, layers, weights):
            super().__init__()
            module.asked.append((layers, weights))

        def forward(self, pictures):
            assert pictures.dtype == torch.uint8
            assert pictures.shape[1] == 3
            means = pictures.double().mean((2, 3))
            return means.float(), means.float()

    module.FeatureExtractorInceptionV3 = Network
    package = types.ModuleType("torch_fidelity")
    package.feature_extractor_inceptionv3 = module
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return module


def test_inception_reads_gray_and_colour_and_its_weights_as_tensors_alone(library, monkeypatch, tmp_path):
    loaded = []
    monkeypatch.setattr(
        torch.hub, "load_state_dict_from_url", lambda address, folder, **how: loaded.append((address, how))
    )
    found = inception(CPU)
    assert found.published
    assert "Inception" in found.name
    assert loaded[0][1]["check_hash"]
    assert loaded[0][1]["weights_only"]
    (layers, weights) = library.asked[0]
    assert layers == ["2048", "logits_unbiased"]
    assert weights == str(tmp_path / "hub/checkpoints/weights-inception-2015-12-05-6726825d.pth")
    gray = torch.full((70, 1, 4, 4), 9, dtype=torch.uint8)
    *counts, features = features_of(found, gray)
    assert counts == [64, 70]
    assert torch.equal(features.vectors, torch.full((70, 3), 9.0))


def test_without_a_network_the_sentence_names_the_file_and_its_place(library, monkeypatch, tmp_path):
    def offline(*args, **how):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    said = refusal(lambda: inception(CPU))
    assert library.URL_INCEPTION_V3 in said
    assert str(tmp_path / "hub" / "checkpoints") in said
    assert library.asked == []


def test_a_file_that_holds_more_than_tensors_never_reaches_the_library(library, tmp_path):
    file = tmp_path / "hub/checkpoints/weights-inception-2015-12-05-6726825d.pth"
    file.parent.mkdir(parents=True)
    torch.save({"weight": print}, file)
    assert "more than tensors" in refusal(lambda: inception(CPU))
    assert library.asked == []


def test_without_the_library_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    assert "pip install" in refusal(lambda: inception(CPU))


def test_a_file_of_the_user_is_taken_where_it_sees_what_the_model_draws(labelled, tmp_path):
    save_classifier(trained_on(labelled, steps=2), tmp_path / "own.safetensors")
    images = ImageSet(labelled.pixels, ())
    (found,) = chosen(str(tmp_path / "own.safetensors"), "shapes", images, CPU)
    assert not found.published
    assert "light and dark" in found.name
    colour = ImageSet(labelled.pixels.expand(-1, 3, -1, -1), ())
    said = refusal(lambda: list(chosen(str(tmp_path / "own.safetensors"), "shapes", colour, CPU)))
    assert "1 channels, the model draws 3" in said


def test_auto_takes_the_labels_of_the_data_and_else_those_of_the_drawn_shapes(labelled, tmp_path):
    from ddpm_app.pictures import to_picture

    for k, name in enumerate(["cat", "dog"] * 4):
        (tmp_path / "by-class" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "flat").mkdir(exist_ok=True)
        for folder in (tmp_path / "by-class" / name, tmp_path / "flat"):
            to_picture(labelled.pixels[k]).save(folder / f"{k}.png")
    images = ImageSet(labelled.pixels[:8], ())
    for source, told in (("by-class", "2 classes"), ("flat", "shapes that this program draws")):
        *_, found = chosen("auto", str(tmp_path / source), images, CPU)
        assert told in found.name
    assert "tells no classes" in refusal(lambda: list(chosen(str(tmp_path / "flat"), "", images, CPU)))
