"""What goes wrong for one of the calls that share a pass is told to that one alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ddpm_app.engine import Cancelled, CancelToken
from ddpm_app.engine.batching import Batcher
from tests.doubles import refusal
from tests.engine.visitors import Network, allocating, failing_at, got, images, right
from tests.waiting import wait_until


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


def test_a_network_that_does_not_come_back_is_left_alone_until_it_does():
    batcher, back = Batcher(patience=1), threading.Event()
    network, other = Network(lambda t: back.wait(60)), Network()

    def ask(network, k):
        return batcher.compute(network, CancelToken(), *images([k]))

    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, network, 1)
        wait_until(lambda: network.passes)
        second = pool.submit(ask, network, 2)
        for waiting in (first, second):
            assert "not answered in time" in refusal(lambda waiting=waiting: waiting.result(60))
    assert "not answered in time" in refusal(lambda: ask(network, 3))
    assert torch.equal(ask(other, 4), right([4]))
    assert network.passes == [[1]]
    back.set()
    wait_until(lambda: not batcher._stalled)
    assert torch.equal(ask(network, 5), right([5]))


# memory


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


def test_when_the_memory_is_free_again_the_passes_grow_again():
    batcher, network = Batcher(), Network(raising(2))

    def ask(times):
        for _ in range(times):
            batcher.compute(network, CancelToken(), *images([1, 2, 3, 4]))

    ask(40)
    assert max(len(timesteps) for timesteps in network.passes[1:]) == 4  # tried, and still too many
    network.behave = lambda t: None
    ask(80)
    assert [len(timesteps) for timesteps in network.passes[-10:]] == [4] * 10


def test_a_model_that_is_let_go_leaves_nothing_behind():
    batcher, network = Batcher(), Network(raising(1))
    batcher.compute(network, CancelToken(), *images([1, 2]))
    assert len(batcher._lowered) == 1
    del network
    assert len(batcher._lowered) == 0
