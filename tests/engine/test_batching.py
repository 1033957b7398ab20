import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

from ddpm_app.engine import Cancelled, CancelToken, batching
from ddpm_app.engine.batching import Batcher, fair_shares
from tests.doubles import refusal, tiny_network
from tests.engine.conftest import wait_until

FOREVER = 2**60  # more elements than any memory holds


class Network:
    """A denoiser of images (1, 2, 2) that remembers the timesteps of each pass."""

    def __init__(self, behave=lambda t: None):
        self.behave, self.passes = behave, []

    def __call__(self, x_t, t):
        self.passes.append(t.tolist())
        self.behave(t)
        return x_t * 2 + t.view(-1, 1, 1, 1)


def images(timesteps):
    """(x_t, t), every image another."""
    t = torch.tensor(timesteps)
    return torch.arange(4.0).view(1, 1, 2, 2) + 1000 * t.view(-1, 1, 1, 1), t


def right(timesteps):
    return Network()(*images(timesteps))


class Visitors:
    """Threads that call one batcher."""

    def __init__(self, pool):
        self.pool, self.batcher = pool, Batcher()

    def ask(self, network, timesteps, token=None):
        """The future output of network for these timesteps."""
        return self.pool.submit(self.batcher.compute, network, token or CancelToken(), *images(timesteps))

    @property
    def waiting(self):
        return len(self.batcher._calls)

    @contextmanager
    def together(self):
        """What is asked for within the block waits until its end, in the order of asking."""
        inside, released = threading.Event(), threading.Event()

        def another(x_t, t):
            inside.set()
            assert released.wait(60)
            return x_t

        first = self.ask(another, [0])
        assert inside.wait(60)
        ask, asked = self.ask, []

        def ask_in_order(*values):
            asked.append(ask(*values))
            wait_until(lambda: self.waiting == 1 + len(asked))
            return asked[-1]

        self.ask = ask_in_order
        try:
            yield
        finally:
            self.ask = ask
            released.set()
        first.result(timeout=60)


@pytest.fixture
def visitors():
    with ThreadPoolExecutor(16) as pool:
        yield Visitors(pool)


def got(future):
    return future.result(timeout=60)


# who shares a pass


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


# what goes wrong for one


def failing_at(*guilty):
    def behave(t):
        if wrong := [timestep for timestep in t.tolist() if timestep in guilty]:
            raise ArithmeticError(f"timestep {wrong[0]}")

    return behave


def test_only_the_guilty_get_the_error_of_a_shared_pass(visitors):
    network = Network(failing_at(13, 14))
    with visitors.together():
        answers = {k: visitors.ask(network, [k, k]) for k in (12, 13, 14, 15)}
    for guilty in (13, 14):
        with pytest.raises(ArithmeticError, match=f"timestep {guilty}"):
            got(answers[guilty])
    assert all(torch.equal(got(answers[k]), right([k, k])) for k in (12, 15))
    assert network.passes[1:] == [[12, 12], [13, 13], [14, 14], [15, 15]]
    assert visitors.waiting == 0


def test_a_guilty_call_drags_nobody_into_a_second_failing_pass(visitors, images_per_pass):
    images_per_pass(2)
    network = Network(failing_at(13))
    with visitors.together():
        answers = [visitors.ask(network, [k, k]) for k in (13, 1, 2)]
    assert isinstance(answers[0].exception(timeout=60), ArithmeticError)
    assert [got(answers[k]).tolist() for k in (1, 2)] == [right([k, k]).tolist() for k in (1, 2)]
    assert network.passes == [[13, 1], [2, 2], [13, 13], [1, 1]]


def test_a_failing_model_leaves_another_models_calls_alone(visitors):
    network = Network()
    with visitors.together():
        bad, good = visitors.ask(Network(failing_at(1)), [1]), visitors.ask(network, [1])
    with pytest.raises(ArithmeticError):
        got(bad)
    assert torch.equal(got(good), right([1]))
    assert len(network.passes) == 1


def test_an_image_of_another_shape_harms_nobody(visitors):
    network = Network()
    with visitors.together():
        good = visitors.ask(network, [1])
        wide = visitors.pool.submit(
            visitors.batcher.compute, network, CancelToken(), torch.zeros(1, 1, 2, 3), torch.tensor([2])
        )
        wait_until(lambda: visitors.waiting == 3)
    assert torch.equal(got(good), right([1]))
    assert got(wide).shape == (1, 1, 2, 3)


def test_a_call_cancelled_while_it_waits_is_never_computed(visitors):
    network, token = Network(), CancelToken()
    with visitors.together():
        stopped, other = visitors.ask(network, [1], token), visitors.ask(network, [2])
        token.cancel()
    with pytest.raises(Cancelled):
        got(stopped)
    assert torch.equal(got(other), right([2]))
    assert network.passes == [[2]]
    assert visitors.waiting == 0


def test_a_call_cancelled_within_a_pass_takes_no_other(visitors, images_per_pass):
    images_per_pass(4)
    token = CancelToken()
    network = Network(lambda t: token.cancel())
    with visitors.together():
        stopped, other = visitors.ask(network, [1] * 9, token), visitors.ask(network, [2] * 4)
    with pytest.raises(Cancelled):
        got(stopped)
    assert torch.equal(got(other), right([2] * 4))
    assert network.passes == [[1, 1, 2, 2], [2, 2]]


def test_a_computing_caller_that_is_interrupted_hands_the_device_on(visitors):
    def interrupt(t):
        if len(network.passes) == 1:
            raise KeyboardInterrupt

    network = Network(interrupt)
    with visitors.together():
        answers = [visitors.ask(network, [k]) for k in range(3)]
    errors = [answer.exception(timeout=60) for answer in answers]
    assert sorted(map(type, errors), key=repr) == [KeyboardInterrupt, type(None), type(None)]
    assert visitors.waiting == 0


# memory


def allocating(most):
    """More than `most` images at once are more than this machine's memory holds."""
    return lambda t: torch.empty(FOREVER) if len(t) > most else None


def raising(most):
    def behave(t):
        if len(t) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return behave


every_shortage = pytest.mark.parametrize("shortage", [allocating, raising])


@every_shortage
def test_a_lack_of_memory_halves_the_pass_for_good(visitors, shortage):
    network, roomy = Network(shortage(3)), Network()
    with visitors.together():
        answers = [visitors.ask(network, [k] * 4) for k in range(3)]
    assert all(torch.equal(got(answer), right([k] * 4)) for k, answer in enumerate(answers))
    assert [len(timesteps) for timesteps in network.passes] == [12, 6, 3, 3, 3, 3]
    got(visitors.ask(network, [7] * 6))
    assert [len(timesteps) for timesteps in network.passes[6:]] == [3, 3]
    got(visitors.ask(roomy, [7] * 6))
    assert len(roomy.passes) == 1


@every_shortage
def test_no_memory_for_one_image_is_told_to_its_caller_alone(visitors, shortage):
    network, small = Network(shortage(0)), Network()
    with visitors.together():
        hopeless, fine = visitors.ask(network, [1, 2]), visitors.ask(small, [3])
    assert "memory of cpu" in refusal(lambda: got(hopeless))
    assert torch.equal(got(fine), right([3]))
    assert [len(timesteps) for timesteps in network.passes] == [2, 1]
    assert visitors.waiting == 0


def test_a_model_that_is_let_go_leaves_nothing_behind():
    batcher, network = Batcher(), Network(raising(1))
    batcher.compute(network, CancelToken(), *images([1, 2]))
    assert len(batcher._lowered) == 1
    del network
    assert len(batcher._lowered) == 0


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
