import pytest
import torch

from ddpm_app.core.samplers import SAMPLERS, reverse
from ddpm_app.models import load_model
from ddpm_app.models.exact import EXACT_MODELS, load, shape_pictures

PIXEL = 2 / 255  # one step of a byte, in [-1, 1]
# Langevin dynamics is exact in the limit of small steps alone
EXACT = [name for name in SAMPLERS if name != "langevin"]


def sample(name: str, sampler: str, num_images: int, num_inference_steps: int) -> torch.Tensor:
    model = load_model(name, "cpu")
    chain = model.diffusion.respaced(num_inference_steps)
    *_, last = reverse(chain, model.denoiser, SAMPLERS[sampler], range(num_images), model.image_shape)
    return last.x_t


def test_the_pictures_are_sixteen_different_ones_within_the_range():
    pictures = shape_pictures()
    assert pictures.shape == (16, 3, 32, 32)
    assert pictures.abs().max() <= 1
    assert len({picture.numpy().tobytes() for picture in pictures}) == 16


@pytest.mark.parametrize("sampler", EXACT)
def test_each_sample_of_exact_shapes_is_one_of_its_pictures(sampler):
    images = sample("exact-shapes", sampler, num_images=12, num_inference_steps=40)
    distances = (images[:, None] - shape_pictures()[None]).abs().flatten(2).amax(-1)
    assert distances.amin(1).max() < PIXEL
    assert len(set(distances.argmin(1).tolist())) > 3


@pytest.mark.parametrize("sampler", EXACT)
def test_exact_normal_recovers_its_mean_and_deviation(sampler):
    pixels = sample("exact-normal", sampler, num_images=64, num_inference_steps=500)
    assert pixels.shape == (
        64,
        1,
        16,
        16,
    )  # 16,384 pixels: the mean is known to 0.002, the deviation to 0.0014
    assert pixels.mean().item() == pytest.approx(0.1, abs=0.01)
    assert pixels.std().item() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("name", EXACT_MODELS)
def test_an_exact_model_needs_neither_network_nor_files(name, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("an exact model reached outside")

    for place in ("socket.socket", "builtins.open", "io.open"):
        monkeypatch.setattr(place, refuse)
    model = load_model(name, "cpu")
    x_t = torch.zeros(1, *model.image_shape)
    assert model.denoiser(x_t, torch.tensor([500])).shape == x_t.shape
    assert (model.name, model.num_parameters) == (name, 0)
    assert model.notes


def test_on_a_device_without_float64_the_cpu_computes():
    assert load("exact-normal", torch.device("mps")).device.type == "cpu"
