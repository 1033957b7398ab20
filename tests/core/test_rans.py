import pytest
import torch

from ddpm_app.core.rans import LANES, LEVELS, PRECISION, Grid, Message

GRID = Grid(-6, 2.0**-5, 384)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(count: int, seed: int = 0, narrow: float = 0.02) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and standard deviations, some of these very small."""
    mean = torch.randn(count, generator=seeded(seed), dtype=torch.float64)
    return mean, narrow + torch.rand(count, generator=seeded(seed + 1), dtype=torch.float64) ** 4


@pytest.mark.parametrize("count", [1, LANES - 1, LANES, LANES + 1, 500])
@pytest.mark.parametrize("grid", [GRID, LEVELS], ids=["latents", "levels"])
def test_what_is_pushed_is_popped_and_the_message_is_as_before(grid, count):
    message, (mean, std) = Message(seeded(3)), normals(count)
    message.pop(GRID, *normals(200, seed=9))  # so that it holds something
    before, bits = message.written(), message.num_bits
    places = torch.randint(grid.count, (count,), generator=seeded(4))  # far from the means, most of them
    for stirred in (False, True):
        message.push(grid, places, mean, std, stirred=stirred)
        assert message.num_bits > bits
        assert torch.equal(message.pop(grid, mean, std, stirred=stirred), places)
        assert message.written() == before


def test_what_is_popped_is_a_draw_that_gives_its_bits_back():
    message, count = Message(seeded(3)), 20_000
    zeros = torch.zeros(count, dtype=torch.float64)
    places = message.pop(GRID, zeros, zeros + 1)
    values = GRID.values(places)
    assert values.mean().abs() < 0.03
    assert values.std().item() == pytest.approx(1, abs=0.02)
    # the entropy of a normal in bins of that width
    entropy = 0.5 * torch.log2(torch.tensor(2 * torch.pi * torch.e)).item() + 5
    assert -message.num_bits / count == pytest.approx(entropy, rel=0.005)
    message.push(GRID, places, zeros, zeros + 1)
    assert message.num_bits == pytest.approx(0, abs=1e-6)


def test_a_place_costs_the_logarithm_of_its_probability():
    message, std = Message(seeded(3)), torch.full((4000,), 0.5, dtype=torch.float64)
    places = torch.full((4000,), GRID.count // 2 + 10)
    before = message.num_bits
    message.push(GRID, places, torch.zeros_like(std), std)
    edges = GRID.low + GRID.spacing * torch.stack([places, places + 1]).double()
    mass = torch.special.ndtr(edges[1] / 0.5) - torch.special.ndtr(edges[0] / 0.5)
    assert message.num_bits - before == pytest.approx(-mass.log2().sum().item(), rel=1e-3)


def test_a_draw_after_a_push_is_its_echo_unless_it_is_stirred():
    zeros = torch.zeros(16, dtype=torch.float64)
    tail = torch.full((16,), GRID.count - 30)
    for stirred in (False, True):
        message = Message(seeded(3))
        message.push(GRID, tail, zeros, zeros + 1)
        drawn = GRID.values(message.pop(GRID, zeros, zeros + 0.1, stirred=stirred))
        echoed = (drawn > 0.4).all().item()  # four deviations out
        assert echoed != stirred


def test_no_place_of_the_grid_is_impossible_and_the_masses_add_up():
    for mean, std in ((0.0, 1e-4), (-50.0, 0.1), (7.0, 3.0)):
        edges = torch.arange(GRID.count + 1)
        below = GRID.cumulative(edges, torch.tensor(mean).double(), torch.tensor(std).double())
        assert below[0] == 0
        assert below[-1] == 2**30
        assert below.diff().min() >= 1


@pytest.mark.parametrize("narrow", [1e-4, 0.02, 5.0])
@pytest.mark.parametrize("grid", [GRID, LEVELS], ids=["latents", "levels"])
def test_the_place_of_a_slot_is_the_one_whose_part_holds_it(grid, narrow):
    mean, std = normals(3000, narrow=narrow)
    slot = torch.randint(2**PRECISION, (3000,), generator=seeded(4))
    slot[:2], slot[2:4] = 0, 2**PRECISION - 1
    mean[4:8] = torch.tensor([-50.0, -7.0, 7.0, 50.0])  # beyond the grid
    places, start, end = grid.holding(slot, mean, std)
    assert ((start <= slot) & (slot < end)).all()
    assert torch.equal(start, grid.cumulative(places, mean, std))
    assert torch.equal(end, grid.cumulative(places + 1, mean, std))
    assert places.min() >= 0
    assert places.max() < grid.count


def test_a_file_holds_the_whole_message():
    message, (mean, std) = Message(seeded(3)), normals(300)
    places = message.pop(GRID, mean, std)
    message.push(GRID, places.flip(0), mean, std)
    again = Message.read(message.written(), seeded(0))
    assert again.written() == message.written()
    assert torch.equal(again.pop(GRID, mean, std), places.flip(0))
    assert again.borrowed == 0


def test_borrowed_bits_are_counted_and_lie_at_the_bottom_in_the_end():
    message, (mean, std) = Message(seeded(3)), normals(300)
    empty = message.written()
    places = message.pop(GRID, mean, std)
    assert message.borrowed > 0
    assert message.borrowed_bits == 64 * LANES + 16 * message.borrowed
    message.push(GRID, places, mean, std)
    assert message.written()[: len(empty)] == empty
    assert len(message.written()) == len(empty) + 2 * message.borrowed
