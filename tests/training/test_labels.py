import io

import pyarrow
import pyarrow.parquet
import pytest
import torch

from ddpm_app.pictures import to_picture
from ddpm_app.training.data import load_images
from ddpm_app.training.labels import load_labelled, tells_classes
from ddpm_app.training.shapes import NUM_PICTURES, kind
from tests.doubles import refusal
from tests.training.runs import picture


def encoded(seed):
    file = io.BytesIO()
    to_picture(picture(seed)).save(file, "PNG")
    return file.getvalue()


def save_table(file, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), file)


def save_classes(folder, names):
    for k, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        to_picture(picture(k)).save(folder / name / f"{k}.png")


@pytest.mark.parametrize("column", ["label", "fine_label"])
def test_the_column_of_labels_goes_with_the_pictures_of_its_row(tmp_path, column):
    save_table(tmp_path / "train.parquet", image=[encoded(k) for k in range(4)], **{column: [7, 3, 7, 5]})
    found = load_labelled(tmp_path / "train.parquet", 8, 3)
    assert found.labels.tolist() == [2, 0, 2, 1]
    assert found.num_classes == 3
    assert all(torch.equal(found.pixels[k], picture(k)) for k in range(4))
    assert found.about.endswith("/train.parquet")


def test_folders_by_class_are_classes(tmp_path):
    save_classes(tmp_path, ["cat", "dog", "cat"])
    found = load_labelled(tmp_path, 8, 3)  # in the order cat/0, cat/2, dog/1
    assert found.labels.tolist() == [0, 0, 1]
    assert torch.equal(found.pixels[2], picture(1))


def test_a_split_is_no_class(tmp_path):
    save_classes(tmp_path, ["train/cat", "test/cat", "train/dog", "test/dog"])
    found = load_labelled(tmp_path, 8, 3)  # in the order test/cat, test/dog, train/cat, train/dog
    assert found.labels.tolist() == [0, 1, 0, 1]
    save_classes(tmp_path / "flat", ["train", "test"])
    assert not tells_classes(tmp_path / "flat")


def test_no_more_files_are_read_than_hold_so_many_pictures(tmp_path):
    for k, labels in enumerate(([3, 3], [3, 5])):
        save_table(tmp_path / f"train-{k}.parquet", image=[encoded(0), encoded(1)], label=labels)
    images = load_images(tmp_path, 8, 3)
    (tmp_path / "train-2.parquet").write_bytes(b"never opened")
    assert not tells_classes(tmp_path, 2)
    assert tells_classes(tmp_path, 4)
    assert load_labelled(tmp_path, 8, 3, images).labels.tolist() == [0, 0, 0, 1]


def test_drawn_shapes_know_what_they_are():
    found = load_labelled("shapes", 8, 3)
    assert (len(found.labels), found.num_classes) == (NUM_PICTURES, 56)
    assert len({kind(k) for k in range(NUM_PICTURES)}) == 56
    assert found.labels.bincount().min() > 40


def test_a_label_names_the_ink_of_the_first_shape():
    from PIL import ImageColor

    from ddpm_app.training.shapes import draw

    for place in range(12):
        _, ink = kind(place).split()
        colours = {colour for _, colour in draw(place, 64).getcolors(4096)}
        assert ImageColor.getrgb(ink) in colours


def test_where_no_class_is_told_the_sentence_says_what_to_give(tmp_path):
    save_table(tmp_path / "plain.parquet", image=[encoded(0), encoded(1)])
    assert "label" in refusal(lambda: load_labelled(tmp_path / "plain.parquet", 8, 3))
    save_table(tmp_path / "one.parquet", image=[encoded(0), encoded(1)], label=[4, 4])
    assert "at least two" in refusal(lambda: load_labelled(tmp_path / "one.parquet", 8, 3))
    save_classes(tmp_path / "flat", [""])
    assert "folder of pictures for each class" in refusal(lambda: load_labelled(tmp_path / "flat", 8, 3))
    save_table(tmp_path / "hole.parquet", image=[encoded(0), b"no picture"], label=[0, 1])
    assert "row 1 of hole.parquet" in refusal(lambda: load_labelled(tmp_path / "hole.parquet", 8, 3))
