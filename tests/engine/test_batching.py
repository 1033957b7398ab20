"""Calls of one network that wait at the same time: who shares a pass, and what each gets of it."""

import random
import threading

import pytest
import torch

from ddpm_app.engine import Cancelled, CancelToken, batching
from ddpm_app.engine.batching import Batcher, fair_shares
from tests.doubles import tiny_network
from tests.engine.visitors import Network, allocating, failing_at, got, images, right
from tests.waiting import wait_until


@pytest.mark.parametrize("seed", range(20))
def test_shares_are_even_and_fill_the_pass(seed):
    chance = random.Random(seed)
    sizes = [chance.randint(1, 30) for _ in range(chance.randint(1, 12))]
    bound = chance.randint(len(sizes), 200)
    shares = fair_shares(sizes, bound)
    assert sum(shares) == min(bound, sum(sizes))
    assert all(0 < share <= size for share, size in zip(shares, sizes, strict=True))
    short = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    assert all(share >= max(shares) - 1 for share in short)


def test_calls_that_wait_together_share_a_pass_and_each_gets_its_own(visitors):
    network = Network()
    with visitors.together():
        answers = [visitors.ask(network, timesteps) for timesteps in ([5, 6], [900], [3, 3, 3])]
    assert [torch.equal(got(a), right(t)) for a, t in zip(answers, ([5, 6], [900], [3, 3, 3]), strict=True)]
    assert network.passes == [[5, 6, 900, 3, 3, 3]]
    assert visitors.waiting == 0


def test_a_lone_call_computes_at_once_in_its_callers_thread(images_per_pass):
    images_per_pass(2)
    threads = []
    network = Network(lambda t: threads.append(threading.current_thread()))
    answer = Batcher().compute(network, CancelToken(), *images([1, 2, 3, 4, 5]))
    assert torch.equal(answer, right([1, 2, 3, 4, 5]))
    assert network.passes == [[1, 2], [3, 4], [5]]
    assert set(threads) == {threading.current_thread()}


def test_a_short_call_does_not_wait_for_the_end_of_a_long_one(visitors, images_per_pass):
    images_per_pass(4)
    network = Network()
    with visitors.together():
        long = visitors.ask(network, list(range(10)))
        short = visitors.ask(network, [77])
    assert torch.equal(got(long), right(list(range(10))))
    assert torch.equal(got(short), right([77]))
    assert network.passes == [[0, 1, 2, 77], [3, 4, 5, 6], [7, 8, 9]]


def test_more_calls_than_fit_a_pass_go_round(visitors, images_per_pass):
    images_per_pass(2)
    network = Network()
    with visitors.together():
        answers = [visitors.ask(network, [k, 10 + k]) for k in range(3)]
    assert [got(a).tolist() for a in answers] == [right([k, 10 + k]).tolist() for k in range(3)]
    assert network.passes == [[0, 1], [2, 10], [11, 12]]


def test_models_take_turns(visitors, images_per_pass):
    images_per_pass(2)
    order = []
    one, other = (Network(lambda t, name=name: order.append(name)) for name in "ab")
    with visitors.together():
        answers = [visitors.ask(one, [1, 2, 3, 4]), visitors.ask(other, [5, 6, 7, 8])]
    assert [got(a).tolist() for a in answers] == [right([1, 2, 3, 4]).tolist(), right([5, 6, 7, 8]).tolist()]
    assert order == ["a", "b", "a", "b"]


# anything at once


@pytest.mark.parametrize("seed", range(8))
def test_everybody_gets_what_a_lone_call_gives_or_their_own_error(visitors, images_per_pass, seed):
    images_per_pass(7)
    chance = random.Random(seed)
    tokens = [CancelToken() for _ in range(60)]
    guilty = {100 + k for k in chance.sample(range(60), 8)}
    doomed = {k: token for k, token in enumerate(tokens) if chance.random() < 0.2}

    def behave(t):
        if chance.random() < 0.3 and doomed:
            chance.choice(list(doomed.values())).cancel()
        allocating(5)(t)
        failing_at(*guilty)(t)

    networks = [Network(behave) for _ in range(3)]
    asked = {}
    for k, token in enumerate(tokens):
        timesteps = [100 + k] * chance.randint(1, 9)
        asked[k] = timesteps, visitors.ask(chance.choice(networks), timesteps, token)
    for k, (timesteps, answer) in asked.items():
        error = answer.exception(timeout=60)
        if error is None:
            assert 100 + k not in guilty
            assert torch.equal(got(answer), right(timesteps))
        elif isinstance(error, Cancelled):
            assert tokens[k].cancelled
        else:
            assert 100 + k in guilty
            assert str(error) == f"timestep {100 + k}"
    assert max(len(timesteps) for network in networks for timesteps in network.passes) <= 7
    assert visitors.waiting == 0


@pytest.mark.parametrize("bound", [3, 100])
def test_a_real_network_gives_each_image_the_same_whoever_shares_its_pass(visitors, images_per_pass, bound):
    images_per_pass(16 * bound)  # of 8 x 8
    network, chance = tiny_network(), torch.Generator().manual_seed(0)

    def denoiser(x_t, t):
        return network(x_t, t, return_dict=False)[0]

    calls = [
        (torch.randn(size, 3, 8, 8, generator=chance), torch.randint(1000, (size,), generator=chance))
        for size in (1, 4, 2, 7)
    ]
    compute = visitors.batcher.compute
    with visitors.together():
        answers = [visitors.pool.submit(compute, denoiser, CancelToken(), *call) for call in calls]
        wait_until(lambda: visitors.waiting == 5)
    for call, answer in zip(calls, answers, strict=True):
        with torch.inference_mode():
            torch.testing.assert_close(got(answer), denoiser(*call), rtol=0, atol=1e-5)


# a device that computes behind its callers


@pytest.fixture
def behind(monkeypatch):
    """A device whose passes end when told: `behind.set()`."""
    done = threading.Event()
    monkeypatch.setattr(batching, "end_of_pass", lambda device: lambda: done.wait(60))
    yield done
    done.set()


def test_a_call_returns_before_the_device_is_done_and_the_next_pass_waits_for_it(visitors, behind):
    network = Network()
    assert torch.equal(got(visitors.ask(network, [1])), right([1]))  # the device is still at it
    answers = [visitors.ask(network, [k]) for k in (2, 3)]
    wait_until(lambda: visitors.waiting == 2)
    assert network.passes == [[1]]
    behind.set()
    assert [got(answer).tolist() for answer in answers] == [right([k]).tolist() for k in (2, 3)]
    assert sorted(network.passes[1]) == [2, 3]  # gathered meanwhile


def test_a_call_stopped_while_the_device_is_busy_gives_it_nothing_more(visitors, behind):
    network, token = Network(), CancelToken()
    got(visitors.ask(network, [1]))
    stopped = visitors.ask(network, [2], token)
    wait_until(lambda: visitors.waiting == 1)
    token.cancel()
    behind.set()
    with pytest.raises(Cancelled):
        got(stopped)
    assert network.passes == [[1]]
