import pytest

from ddpm_app.evaluation.server import answers, measure_visitors, serving
from tests.doubles import refusal

SHEET = {"num_images": 2, "num_inference_steps": 5, "sampler": "ddim"}


@pytest.mark.slow
def test_every_visitor_of_the_real_server_sees_a_preview_and_gets_a_sheet():
    with serving(["--model", "exact-shapes", "--device", "cpu"]) as url:
        report = measure_visitors(url, 2, SHEET)
    assert report.visitors == 2
    assert 0 < report.first_preview_seconds <= report.last_preview_seconds <= report.seconds
    assert report.images_per_second == pytest.approx(4 / report.seconds)
    assert not answers(url)


def test_a_server_that_cannot_start_says_why():
    def never():
        with serving(["--device", "abacus"]):
            pass

    assert "abacus" in refusal(never)
