import io
import socket

import pyarrow
import pyarrow.parquet
import pytest
import torch

from ddpm_app.pictures import to_picture
from ddpm_app.training.data import load_images
from ddpm_app.training.splits import of_split
from tests.doubles import point_client_at, refusal

NAME = "owner/set"
CONVERTED = "refs/convert/parquet"


def encoded(value):
    buffer = io.BytesIO()
    to_picture(torch.full((1, 4, 4), value, dtype=torch.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def shard(folder, name, values, column="image"):
    """A parquet file of gray pictures, each of one value, as the Hub stores them."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": encoded(value), "path": None} for value in values]
    pyarrow.parquet.write_table(pyarrow.table({column: rows, "label": values}), file)


def loose(folder, name, value):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(encoded(value))


def values(source=NAME, **settings):
    return load_images(source, 4, 1, **settings).pixels[:, 0, 0, 0].tolist()


@pytest.fixture
def repo(hub, tmp_path):
    """Two splits in three files, and a card."""
    folder = tmp_path / "repo"
    shard(folder, "data/train-00000-of-00002.parquet", [1, 2], column="img")
    shard(folder, "data/train-00001-of-00002.parquet", [3], column="img")
    shard(folder, "data/test-00000-of-00001.parquet", [9], column="img")
    (folder / "README.md").write_text("a card")
    hub.add(NAME, folder)
    return folder


def test_a_data_set_is_its_training_split_unless_another_is_named(hub, repo):
    assert values() == [1, 2, 3]
    assert values(f"{NAME}:test") == [9]


def test_nothing_but_the_split_is_fetched_and_that_once(hub, repo):
    assert values() == values()
    card, *files = hub.downloads()
    assert card == "README.md"
    assert files == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]


def test_no_file_is_fetched_beyond_the_pictures_wanted(hub, repo):
    assert values(limit=1) == [1]
    assert hub.downloads() == ["README.md", "train-00000-of-00002.parquet"]


def test_a_revision_is_the_one_asked_for(hub, repo, tmp_path):
    shard(tmp_path / "v1", "train.parquet", [7])
    hub.add(NAME, tmp_path / "v1", revision="v1")
    assert values(f"{NAME}@v1") == [7]
    assert values(f"{NAME}:train@{hub.commit(NAME, 'main')}") == [1, 2, 3]


def test_a_folder_here_goes_before_a_data_set_of_the_same_name(hub, repo, tmp_path, monkeypatch):
    loose(tmp_path, f"{NAME}/a.png", 5)
    monkeypatch.chdir(tmp_path)
    assert values() == [5]
    assert not hub.log


def test_the_hubs_parquet_copy_stands_for_loose_pictures(hub, tmp_path):
    loose(tmp_path / "repo", "train/cat/a.png", 1)
    shard(tmp_path / "copy", "default/train/0000.parquet", [1, 2])
    shard(tmp_path / "copy", "default/test/0000.parquet", [3])
    hub.add(NAME, tmp_path / "repo")
    hub.add(NAME, tmp_path / "copy", revision=CONVERTED)
    assert values() == [1, 2]
    assert values(f"{NAME}:test") == [3]
    assert values(f"{NAME}@main") == [1]  # a revision is not what was converted


@pytest.mark.parametrize("partial", [False, True])
def test_loose_pictures_are_fetched_where_there_is_no_whole_copy(hub, tmp_path, partial):
    for k in range(20):
        loose(tmp_path / "repo", f"train/{k % 3}/{k:02}.png", k)
    loose(tmp_path / "repo", "test/0/00.png", 99)
    hub.add(NAME, tmp_path / "repo")
    if partial:
        shard(tmp_path / "copy", "default/partial-train/0000.parquet", [7])
        hub.add(NAME, tmp_path / "copy", revision=CONVERTED)
    assert values() == sorted(range(20), key=lambda k: (k % 3, k))
    assert not any("test/0" in line for line in hub.log)


def test_a_file_that_the_hub_does_not_send_ends_the_loading(hub, tmp_path, monkeypatch):
    for k in range(4):
        loose(tmp_path / "repo", f"{k}.png", k)
    hub.add(NAME, tmp_path / "repo")
    answer = hub.answer
    monkeypatch.setattr(
        hub, "answer", lambda path: (403, {}, b"") if path.endswith("2.png") else answer(path)
    )
    assert "the Hub answers" in refusal(values)  # not three pictures, one of them left out


def test_a_split_that_is_not_there_is_told_with_those_that_are(hub, repo):
    sentence = refusal(lambda: values(f"{NAME}:holdout"))
    assert "'holdout'" in sentence
    assert f"{NAME}:data/test or {NAME}:data/train" in sentence
    assert values(f"{NAME}:data/test") == [9]


def test_a_data_set_without_pictures_is_refused_before_anything_is_fetched(hub, tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "train.csv").write_text("a,b")
    hub.add(NAME, tmp_path / "repo")
    assert f"{NAME} has no parquet file, zip or picture" in refusal(values)
    assert not hub.downloads()


def test_a_data_set_of_texts_is_refused(hub, tmp_path):
    (tmp_path / "repo").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "repo" / "train.parquet")
    hub.add(NAME, tmp_path / "repo")
    assert "its columns are text" in refusal(values)


def test_a_data_set_that_is_nowhere_is_told(hub):
    sentence = refusal(lambda: values("photos/cats"))
    assert "no data set photos/cats here" in sentence
    assert "check the spelling" in sentence
    assert "private" in sentence


def test_a_revision_that_is_not_there_is_told(hub, repo):
    sentence = refusal(lambda: values(f"{NAME}@v9"))
    assert "'v9'" in sentence
    assert "leave it out" in sentence


def test_a_gated_data_set_is_told(hub, repo):
    hub.gated.add(NAME)
    assert "accept its terms" in refusal(values)


def test_a_login_that_the_hub_refuses_is_told(hub, monkeypatch):
    headers = {"X-Error-Message": "Invalid credentials in Authorization header"}
    monkeypatch.setattr(hub, "answer", lambda path: (401, headers, b""))
    assert "renew it" in refusal(values)


def test_a_name_that_no_data_set_can_have_is_told(hub):
    assert "owner/repo" in refusal(lambda: values("owner/re--po"))
    assert not hub.log


def test_a_hub_out_of_reach_is_told(hub, monkeypatch):
    with socket.socket() as unused:  # bound but not listening
        unused.bind(("127.0.0.1", 0))
        point_client_at(f"http://127.0.0.1:{unused.getsockname()[1]}", monkeypatch)
        assert "check the network" in refusal(values)


def test_offline_mode_is_obeyed_and_told(hub, repo, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "check the network" in refusal(values)
    assert not hub.log


@pytest.mark.parametrize("source", [NAME, f"{NAME}:test", "{commit}"])
def test_what_was_fetched_once_is_there_without_a_network(hub, repo, monkeypatch, source):
    from huggingface_hub import constants

    source = f"{NAME}:train@{hub.commit(NAME, 'main')}" if source == "{commit}" else source
    online = values(source)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.log)
    assert values(source) == online
    assert "not cached here" in refusal(lambda: values(f"{NAME}:{'train' if 'test' in source else 'test'}"))
    assert len(hub.log) == asked


@pytest.mark.parametrize("copied", [True, False])
def test_loose_pictures_or_their_copy_are_there_without_a_network_too(hub, tmp_path, monkeypatch, copied):
    from huggingface_hub import constants

    loose(tmp_path / "repo", "a.png", 1)
    (tmp_path / "repo" / "README.md").write_text("a card")
    hub.add(NAME, tmp_path / "repo")
    if copied:
        shard(tmp_path / "copy", "default/train/0000.parquet", [1, 2])
        hub.add(NAME, tmp_path / "copy", revision=CONVERTED)
    online = values()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert values() == online == ([1, 2] if copied else [1])


def test_a_cache_without_room_is_told(hub, repo, monkeypatch, tmp_path):
    from huggingface_hub import constants

    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    sentence = refusal(values)
    assert "HF_HOME" in sentence
    assert "Not a directory" in sentence


# splits


@pytest.mark.parametrize(
    ("files", "wanted", "expected"),
    [
        (["a.parquet", "b.parquet"], "train", [0, 1]),
        (["my_train_file_1.parquet", "x-dev.parquet"], "validation", [1]),
        (["training/0.parquet", "eval/0.parquet"], "test", [1]),
        (["train-00000-of-00001-abcd.parquet", "train_small-00000-of-00001.parquet"], "train", [0]),
        (["train-00000-of-00001.parquet", "train_small-00000-of-00001.parquet"], "train_small", [1]),
        (["train/bird/test 1.png", "test/bird/train 1.png"], "train", [0]),
        (["train.zip", "test.zip"], "test", [1]),
        (["big/train.parquet", "small/train.parquet"], "small/train", [1]),
        (["trainer/a.png", "pretrained/b.png"], "train", [0, 1]),
    ],
)
def test_names_say_the_split_as_they_do_on_the_hub(files, wanted, expected):
    assert of_split(files, wanted, "set") == [files[k] for k in expected]


def test_one_split_in_several_parts_asks_for_a_choice():
    files = [f"part{k}/train.parquet" for k in range(9)]
    sentence = refusal(lambda: of_split(files, "train", NAME))
    assert f"several parts; write {NAME}:part0/train or {NAME}:part1/train" in sentence
    assert sentence.endswith("or one of 3 more")
