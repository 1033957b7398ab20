"""Every picture that a run serves says how the whole run is done again, and again it is the same."""

from pathlib import Path

import pytest
import torch
from gradio_client import Client, handle_file

from ddpm_app.pictures import decode_source, read_recipe, save_png, to_picture
from ddpm_app.ui.openings import FOLDER
from ddpm_app.ui.replay import settings_in, settings_of
from tests.doubles import refusal
from tests.ui.served import opened

TINY = {"model": "tiny-8", "seed": 5}
CHAIN = TINY | {"num_inference_steps": 3, "num_images": 2}
RUNS = {
    "sample": CHAIN | {"sampler": "ddim", "eta": 0.5, "rederive_eps": False, "langevin_steps": 1},
    "progressive": CHAIN | {"timestep_spacing": "trailing"},
    "stochastic": CHAIN | {"diffusion_steps": 400},
    "interpolate": CHAIN | {"kind": "grid", "shared_noise": False},
    "compare": CHAIN | {"other_num_inference_steps": 2},
    "consistency": TINY | {"steps": [2, 3], "num_images": 1},
    "latent_grid": TINY | {"edge": 2, "num_inference_steps": 2},
    "respacing": TINY | {"steps": [2], "num_images": 1},
    "reconstruct": TINY | {"steps": [2]},
    "compression": TINY,
    "coding": TINY | {"num_images": 2, "num_inference_steps": 3},
    "likelihood": TINY | {"num_terms": 3},
    "branches": TINY | {"num_inference_steps": 4, "branches": "501:9"},
    "forward": TINY | {"diffusion_steps": 300, "schedule": "cosine"},
    "schedules": TINY | {"chosen": ["cosine", "sigmoid"]},
    "figure": TINY | {"name": "Figure 6", "reverse_steps": 100},
}
PICTURES = {
    "stochastic": ["picture"],
    "interpolate": ["picture_a", "picture_b"],
    "reconstruct": ["picture"],
    "compression": ["picture"],
    "coding": ["picture"],
    "likelihood": ["picture"],
    "forward": ["picture"],
    "schedules": ["picture"],
}


def served(answer: object) -> list[str]:
    """The PNG files of an answer, however deep they lie."""
    if isinstance(answer, dict | list | tuple):
        parts = answer.values() if isinstance(answer, dict) else answer
        return [file for part in parts for file in served(part)]
    told = isinstance(answer, str) and answer.endswith(".png") and Path(answer).name != "branch.png"
    return [answer] if told else []  # the strip of a branch tells of that branch alone


@pytest.mark.slow
@pytest.mark.parametrize("tab", RUNS)
def test_a_recipe_runs_again_to_the_last_bit(client: Client, tmp_path: Path, tab: str):
    noise = torch.Generator().manual_seed(0)
    given = {
        name: save_png(
            to_picture(torch.randint(256, (3, 8, 8), generator=noise, dtype=torch.uint8)),
            tmp_path / f"{name}.png",
        )
        for name in PICTURES.get(tab, [])
    }
    pictures = {name: handle_file(file) for name, file in given.items()}
    first = served(client.predict(**RUNS[tab], **pictures, api_name=f"/{tab}"))
    recipes = [read_recipe(file)["run"] for file in first]
    assert recipes
    assert all(recipe == recipes[0] for recipe in recipes)
    settings = dict(recipes[0])
    assert settings.pop("tab") == tab
    assert RUNS[tab].items() <= settings.items()
    for name in given:
        file = tmp_path / f"again-{name}.png"
        settings[name] = handle_file(save_png(to_picture(decode_source(settings[name])), file))
    again = served(client.predict(**settings, api_name=f"/{tab}"))
    for one, other in zip(first, again, strict=True):
        assert opened(one).tobytes() == opened(other).tobytes()


def test_a_branch_that_the_page_opens_with_is_no_run_of_the_sample_tab():
    settings = settings_of(read_recipe(FOLDER / "branches-1.png"))
    assert (settings["tab"], settings["branches"]) == ("branches", "850:100")
    assert settings_of({"model": "tiny-8", "seed": 3})["tab"] == "sample"


@pytest.mark.parametrize(
    "words", ["http://[?tab=sample", "http://x]?tab=sample", "http://a\u2100b/?tab=sample", ""]
)
def test_what_is_no_link_is_told_so(words: str):
    assert "no link to this app" in refusal(lambda: settings_in(words))
