from dataclasses import replace
from pathlib import Path

import torch

from ddpm_app.evaluation.classifier import Classifier, learn, load_classifier, save_classifier, trained_on
from tests.doubles import refusal

STEPS = 30


def weights(classifier):
    return list(classifier.network.state_dict().values())


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_it_learns_the_classes_and_says_how_well_on_pictures_held_out(labelled):
    *shares, found = learn(labelled, steps=STEPS)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert found.about.accuracy == 1
    assert found.about.num_images == 108  # a tenth is held out
    features = found(labelled.pixels)
    assert features.vectors.shape == (120, 64)
    assert (features.logits.argmax(1) == labelled.labels).float().mean() > 0.95
    assert all(words in found.name for words in ("2 classes", "108 pictures of light and dark", "100.0%"))


def test_the_same_pictures_and_seed_give_the_same_weights_and_torchs_own_state_stays(labelled, cache):
    before = torch.get_rng_state()
    one = trained_on(labelled, steps=STEPS)
    for file in cache.rglob("*.safetensors"):
        file.unlink()
    assert same(one, trained_on(labelled, steps=STEPS))
    assert not same(one, trained_on(labelled, seed=1, steps=STEPS))
    assert torch.equal(before, torch.get_rng_state())


def test_what_was_trained_once_is_found_again_by_its_content(labelled):
    one = trained_on(labelled, steps=STEPS)
    (again,) = learn(labelled, steps=STEPS)
    assert isinstance(again, Classifier)
    assert same(one, again)
    assert (one.name, one.fingerprint) == (again.name, again.fingerprint)
    for changed in ({"pixels": labelled.pixels.flip(0)}, {"labels": 1 - labelled.labels}):
        assert len(list(learn(replace(labelled, **changed), steps=STEPS))) == STEPS + 1


def test_what_cannot_be_kept_is_learned_all_the_same(labelled, cache):
    one = trained_on(labelled, steps=STEPS)
    (file,) = cache.rglob("*.safetensors")
    file.unlink()
    Path(f"{file}.partial").mkdir()  # in its way
    assert same(trained_on(labelled, steps=STEPS), one)
    assert not file.exists()


def test_features_of_a_picture_do_not_hang_on_its_neighbours_or_its_size(labelled):
    found = trained_on(labelled, steps=STEPS)
    together, alone = found(labelled.pixels), found(labelled.pixels[7:8])
    torch.testing.assert_close(together.vectors[7:8], alone.vectors, rtol=1e-4, atol=1e-5)
    twice = labelled.pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(found(twice).logits, together.logits, rtol=0.2, atol=0.5)


def test_a_file_of_another_kind_is_refused_in_words(labelled, tmp_path):
    from safetensors.torch import save_file

    found = trained_on(labelled, steps=1)
    save_classifier(found, tmp_path / "kept.safetensors")
    assert same(found, load_classifier(tmp_path / "kept.safetensors"))
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors at all")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "kept.safetensors").read_bytes()[:-100])
    for file in ("other", "text", "cut", "missing"):
        assert f"{file}.safetensors is no classifier" in refusal(
            lambda file=file: load_classifier(tmp_path / f"{file}.safetensors")
        )
