"""What the served API refuses: a sentence each, before anything is drawn."""

import re
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.ui.conftest import MODEL
from tests.ui.served import answer_to, bomb, status

NUMBERS = {
    "/sample": ("num_images", "num_inference_steps", "eta", "seed", "langevin_steps", "langevin_snr"),
    "/progressive": ("num_images", "num_inference_steps", "eta", "seed"),
    "/stochastic": ("diffusion_steps", "num_images", "num_inference_steps", "eta", "seed"),
    "/interpolate": ("diffusion_steps", "num_images", "num_inference_steps", "eta", "seed"),
    "/forward": ("diffusion_steps", "seed"),
    "/likelihood": ("num_terms", "num_draws", "seed"),
    "/compression": ("num_terms", "seed"),
    "/coding": ("num_images", "num_inference_steps", "seed"),
}


@pytest.mark.parametrize("name", ["/consistency", "/reconstruct", "/respacing"])
def test_more_steps_than_the_chain_has_are_refused_before_anything_is_drawn(client: Client, name: str):
    job = client.submit(model=MODEL, steps=[2, 2000], api_name=name)
    with pytest.raises(AppError, match="take 2000 out"):
        job.result()
    assert not any(" left" in str(status(each[0])) for each in job.outputs())
    assert "take 2000 out" in str(status(job.outputs()[-1][0]))  # where it stays


@pytest.mark.parametrize(
    ("name", "bad", "said"),
    [
        ("/sample", {"model": "no-such-model"}, "there is no model"),
        ("/sample", {"seed": 2**70}, "seed must be"),
        ("/sample", {"num_inference_steps": 2000}, "2000"),
        ("/sample", {"num_images": 10**9}, "1000000000"),
        ("/sample", {"sampler": "magic"}, "magic"),
        ("/stochastic", {"diffusion_steps": 0}, "0"),
        ("/sample", {"variance_type": "learned_range", "sampler": "ddpm", "model": "tiny-8"}, "fixed_small"),
    ],
)
def test_a_bad_value_gets_its_sentence_and_the_app_goes_on(client: Client, name: str, bad: dict, said: str):
    with pytest.raises(AppError, match=said):
        client.predict(**({"model": MODEL} | bad), api_name=name)
    client.predict(model=MODEL, num_inference_steps=1, num_images=1, api_name="/sample")


@pytest.mark.parametrize(
    ("what", "said"), [("text", "cannot be read"), ("bomb", "8 million pixels"), ("half", "cannot be read")]
)
def test_what_is_no_picture_gets_its_sentence(client: Client, tmp_path: Path, what: str, said: str):
    file = tmp_path / "picture.png"
    if what == "text":
        file.write_text("these are words")
    elif what == "bomb":
        bomb(file, 13_000)
    else:
        Image.effect_noise((64, 64), 60).save(file)
        file.write_bytes(file.read_bytes()[:700])
    job = client.submit(model=MODEL, picture=handle_file(file), api_name="/forward")
    with pytest.raises(AppError, match=said):
        job.result(60)
    assert said in status(job.outputs()[-1][-1])  # where it stays


@pytest.mark.parametrize(
    ("name", "field"), [*((name, field) for name, fields in NUMBERS.items() for field in fields)]
)
@pytest.mark.parametrize("value", ["NaN", "-1e400"])
def test_what_is_no_finite_number_gets_its_sentence(url: str, name: str, field: str, value: str):
    said = answer_to(url, name, f'{{"model": "{MODEL}", "{field}": {value}}}')
    sentence = rf"{field} must be a (whole )?number in|Value -?inf is (less|greater) than m\w+ value"
    assert re.search(f"event: error\ndata: .*({sentence}) .*", said), said


@pytest.mark.parametrize("value", ["NaN", "1e400"])
def test_neither_is_the_seed_of_the_other_end(url: str, value: str):
    body = f'{{"model": "{MODEL}", "kind": "sphere", "other_seed": {value}}}'
    assert "other_seed must be a whole number in" in answer_to(url, "/interpolate", body)
