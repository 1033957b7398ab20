"""The served API, through the real client: what a script, and behind the page a visitor, can do."""

import json
import re
import struct
import zipfile
import zlib
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.pictures import read_recipe
from tests.ui.conftest import MODEL
from tests.waiting import wait_until

ENDPOINTS = (
    "/sample",
    "/progressive",
    "/stochastic",
    "/interpolate",
    "/forward",
    "/figure",
    "/likelihood",
    "/compression",
)
EXPERIMENTS = (  # tested in test_experiments.py, test_branches.py, test_compare.py and test_evaluate.py
    "/branches",
    "/fork",
    "/consistency",
    "/reconstruct",
    "/latent_grid",
    "/variances",
    "/respacing",
    "/bounds",
    "/schedules",
    "/coding",
    "/compare",
)
TINY = {"model": "tiny-8", "num_inference_steps": 3}


def status(text: str) -> str:
    return text["value"] if isinstance(text, dict) else text


def opened(file) -> Image.Image:
    """The picture in memory, its file closed."""
    with Image.open(path(file)) as picture:
        picture.load()
        return picture


def path(value) -> str:
    return value["value"] if isinstance(value, dict) else value


def test_every_endpoint_is_public_and_every_parameter_has_a_default(client: Client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {*ENDPOINTS, *EXPERIMENTS, "/evaluate"}  # which trains: see test_evaluate.py
    for name, endpoint in endpoints.items():
        assert all(p["parameter_has_default"] for p in endpoint["parameters"]), name
        assert not any(p["parameter_name"].startswith("param_") for p in endpoint["parameters"]), name


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_answers_with_nothing_but_a_model_and_few_steps(client: Client, name: str):
    settings = {"model": MODEL}
    if name in ENDPOINTS[:4]:
        settings |= {"num_inference_steps": 4}
    if name == "/likelihood":
        settings |= {"num_terms": 4}
    if name == "/figure":
        settings |= {"reverse_steps": 100}
    answer = client.predict(api_name=name, **settings)
    assert any(
        " s</span>" in status(value) or "SNR" in status(value)
        for value in answer
        if isinstance(value, str | dict)
    )


def test_a_film_of_one_step_is_shown(client: Client):
    line, *_ = client.predict(model=MODEL, num_inference_steps=1, num_images=1, api_name="/progressive")
    assert "1 picture, 1 frame kept" in status(line)


@pytest.mark.parametrize("name", ["/consistency", "/reconstruct", "/respacing"])
def test_more_steps_than_the_chain_has_are_refused_before_anything_is_drawn(client: Client, name: str):
    job = client.submit(model=MODEL, steps=[2, 2000], api_name=name)
    with pytest.raises(AppError, match="take 2000 out"):
        job.result()
    assert not any(" left" in str(status(each[0])) for each in job.outputs())
    assert "take 2000 out" in str(status(job.outputs()[-1][0]))  # where it stays


def test_the_caption_of_a_sent_picture_counts_what_was_measured(client: Client):
    line, *_ = client.predict(model=MODEL, name="Table 4", reverse_steps=100, api_name="/figure")
    assert "130 of 1000 timesteps measured" in status(line)


def test_a_sample_comes_with_sheet_gallery_zip_and_recipe(client: Client, engine: Engine):
    answer = client.predict(**TINY, num_images=3, seed=5, sampler="ddpm", api_name="/sample")
    _, sheet_file, gallery, sheet_download, archive = answer
    assert read_recipe(path(sheet_download))["seed"] == 5
    with zipfile.ZipFile(path(archive)) as pack:
        names = pack.namelist()
    assert names == ["sheet.png", "00000.png", "00001.png", "00002.png"]
    pictures = gallery["value"] if isinstance(gallery, dict) else gallery
    recipe = read_recipe(pictures[1]["image"])
    assert recipe["seed"] == 6
    fields = SampleRequest.__dataclass_fields__
    again = SampleRequest(**{name: value for name, value in recipe.items() if name in fields})
    *_, frame = engine.run(again)
    assert opened(sheet_file).size == (2 * 8 + 1, 2 * 8 + 1)
    shown = np.asarray(opened(pictures[1]["image"])).astype(int)
    assert np.abs(shown - frame.images[0].permute(1, 2, 0).numpy()).max() <= 1


def test_previews_change_while_the_run_goes_on(client: Client):
    job = client.submit(model=MODEL, num_inference_steps=100, num_images=16, api_name="/sample")
    job.result()
    lines = [status(update[0]) for update in job.outputs()]
    assert sum("left" in line for line in lines) >= 2
    assert "left" not in lines[-1]


def test_a_cancelled_job_frees_the_device(url: str, engine: Engine):
    client = Client(url, verbose=False)
    job = client.submit(model=MODEL, num_inference_steps=1000, num_images=64, api_name="/sample")
    wait_until(lambda: engine.active_runs == 1)
    job.cancel()
    wait_until(lambda: engine.active_runs == 0)
    client.close()


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


def bomb(file: Path, edge: int) -> Path:
    """A PNG of edge x edge zeros whose rows are compressed one by one, so that making it takes no memory."""
    pack = zlib.compressobj(9)
    body = b"".join(pack.compress(bytes(1 + edge // 8 + 1)) for _ in range(edge)) + pack.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", edge, edge, 1, 0, 0, 0, 0))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return file


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


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1"])
def test_a_picture_of_any_mode_and_shape_is_taken(client: Client, tmp_path: Path, mode: str):
    file = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    Image.effect_noise((50, 31), 60).convert("RGB").convert(mode).save(file)
    now, strip, *_ = client.predict(model=MODEL, picture=handle_file(file), api_name="/forward")
    assert opened(now).size == (2 * 32 + 1, 32)
    assert opened(strip).size == (9 * 33 - 1, 32)


def test_interpolation_between_uploads_shows_the_sources_at_both_ends(client: Client, tmp_path: Path):
    ends = []
    for name, level in (("dark", 30), ("light", 220)):
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / f"{name}.png")
        ends.append(handle_file(tmp_path / f"{name}.png"))
    answer = client.predict(
        model=MODEL,
        picture_a=ends[0],
        picture_b=ends[1],
        diffusion_steps=0,
        num_images=3,
        api_name="/interpolate",
    )
    strip = np.asarray(opened(answer[1]).convert("L"))
    assert [int(strip[16, 16 + 33 * tile]) for tile in range(5)] == [30, 30, 125, 220, 220]


def test_a_picture_carries_its_recipe_as_text(client: Client):
    answer = client.predict(**TINY, num_images=1, seed=9, api_name="/sample")
    text = opened(answer[3]).info["recipe"]
    assert json.loads(text)["sampler"] == "sde-dpmsolver++"


def test_every_picture_of_a_film_carries_its_recipe(client: Client, engine: Engine):
    answer = client.predict(**TINY, num_images=2, seed=5, api_name="/progressive")
    _, live, x0_hat, x_t, _, _, animation, gallery, _, archive = answer
    fields = SampleRequest.__dataclass_fields__
    for file in (live, x0_hat, x_t, animation):
        recipe = read_recipe(path(file))
        assert recipe["procedure"] == "progressive"
        again = SampleRequest(**{name: value for name, value in recipe.items() if name in fields})
        assert again == SampleRequest(**TINY, sampler="ddpm", num_images=2, seed=5)
    assert read_recipe(path(x0_hat))["t"] == [667, 334, 1]
    pictures = gallery["value"] if isinstance(gallery, dict) else gallery
    assert [read_recipe(each["image"])["seed"] for each in pictures] == [5, 6]
    with zipfile.ZipFile(path(archive)) as pack:
        assert pack.namelist() == ["sheet.png", "00000.png", "00001.png", "x0-hat.png", "x_t.png"]


@pytest.mark.parametrize("name", ENDPOINTS[:4])
def test_the_closing_line_tells_the_visited_timesteps(client: Client, name: str):
    line, *_ = client.predict(**TINY, timestep_spacing="trailing", num_images=2, api_name=name)
    assert re.search(r"visited t = \d+, \d+(, \d+)* \(\d of 1000, trailing\), computed by ", status(line))


@pytest.mark.parametrize(("eta", "same"), [(0, True), (1, False)])
def test_continuations_without_noise_are_said_to_be_the_same(client: Client, eta: float, same: bool):
    line, *_ = client.predict(**TINY, sampler="ddim", eta=eta, num_images=2, api_name="/stochastic")
    assert ("the same picture" in status(line)) == same


def test_forward_leaves_the_picture_given_to_it_alone(client: Client):
    returns = client.view_api(return_format="dict")["named_endpoints"]["/forward"]["returns"]
    assert len(returns) == 3


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


def answer_to(url: str, name: str, body: str) -> str:
    """What the server says to JSON as it stands, which a client of ours would refuse to write."""
    address, kind = f"{url}gradio_api/call/v2{name}", {"Content-Type": "application/json"}
    asked = httpx.post(address, content=body, headers=kind).json()
    return httpx.get(f"{address}/{asked['event_id']}", timeout=60).text


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
