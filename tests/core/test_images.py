import torch

from ddpm_app.core.images import from_uint8, to_uint8

LEVELS = torch.arange(256, dtype=torch.uint8)


def test_all_256_levels_survive_the_round_trip():
    assert torch.equal(to_uint8(from_uint8(LEVELS)), LEVELS)


def test_bytes_become_float32_from_minus_1_to_1():
    floats = from_uint8(LEVELS)
    assert floats.dtype == torch.float32
    assert floats[[0, 255]].tolist() == [-1, 1]
    # equal distances, up to float32 rounding near 1
    torch.testing.assert_close(floats.diff(), torch.full((255,), 2 / 255), rtol=0, atol=2e-7)


def test_pixels_are_rounded_to_the_nearest_level_and_not_truncated():
    nearly_half_a_level = 0.49 / 127.5
    assert torch.equal(to_uint8(from_uint8(LEVELS) - nearly_half_a_level), LEVELS)
    assert torch.equal(to_uint8(from_uint8(LEVELS) + nearly_half_a_level), LEVELS)


def test_what_lies_outside_is_clipped_and_does_not_wrap():
    assert (
        to_uint8(torch.tensor([-torch.inf, -3.0, -1.01, 1.01, 3.0, torch.inf])).tolist()
        == [0] * 3 + [255] * 3
    )


def test_half_precision_pixels_are_converted_in_float32():
    floats = from_uint8(LEVELS).to(torch.float16)
    # float16 is good to 2^-11, below half a level, so nothing moves
    assert torch.equal(to_uint8(floats), LEVELS)


def test_the_shape_stays():
    images = torch.zeros(2, 3, 4, 5)
    assert to_uint8(images).shape == images.shape == from_uint8(to_uint8(images)).shape
