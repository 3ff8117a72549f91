"""Feature files of utterances: every form of the same data, what is missing in it, and who may be in which split."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

from adni_tcgm.datasets import emotion
from adni_tcgm.datasets.convert_pickle import convert
from adni_tcgm.datasets.emotion import EmotionConfig
from adni_tcgm.datasets.emotion_files import group_of, read_labels
from adni_tcgm.datasets.emotion_simulated import StandIn, simulate
from adni_tcgm.datasets.sequences import mark_steps, standardize_steps
from adni_tcgm.tcgm.batch import Splits

REAL = Path(__file__).parents[2] / "../shared/data/mosi/mosi_utterance_2way.npz"
ENDINGS = {"pickle": "npz", "mat 7.3": "mat"}
SMALL = StandIn(scale=0.05, missing=0.3)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """`train/text` and so on: 136, 40 and 47 utterances of ten speakers, a tenth without each modality."""
    return simulate(SMALL, "angry", seed=0)


def config(path: Path | str = "", **more) -> EmotionConfig:
    return EmotionConfig(path=str(path), task="angry", label_rate=0.1, stand_in=SMALL, **more)


def nested(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        split, role = name.split("/")
        found.setdefault(split, {})[role] = values
    return found


def write(folder: Path, form: str, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / f"file.{ENDINGS.get(form, form)}"
    if form == "npz":
        np.savez(path, **arrays)
    elif form == "mat":
        savemat(path, nested(arrays))
    elif form == "h5":
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values.astype("S") if values.dtype.kind == "U" else values
    elif form == "mat 7.3":
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                if values.dtype.kind != "U":
                    file[name] = values.T
                    continue
                cells = [file.create_dataset(f"#refs#/{name}/{i}", data=[*map(ord, t)]) for i, t in enumerate(values)]
                file.create_dataset(name, (1, len(cells)), h5py.ref_dtype)[0] = [cell.ref for cell in cells]
    else:
        (folder / "file.pkl").write_bytes(pickle.dumps(nested(arrays), protocol=2))
        convert(folder / "file.pkl", path)
    return path


def assert_same(one: Splits, other: Splits) -> None:
    assert one.rows == other.rows
    for part in ("train", "validation", "test"):
        a, b = getattr(one, part), getattr(other, part)
        assert (a.sample_ids, a.groups, a.nuisance_groups) == (b.sample_ids, b.groups, b.nuisance_groups)
        torch.testing.assert_close(a.labels, b.labels)
        torch.testing.assert_close(a.present, b.present)
        for name, values in a.inputs.items():
            torch.testing.assert_close(values, b.inputs[name])


@pytest.mark.parametrize("form", ["npz", "mat", "mat 7.3", "h5", "pickle"])
def test_the_same_data_in_any_form_are_the_same_splits(tmp_path: Path, arrays, form: str) -> None:
    assert_same(emotion.load(config(write(tmp_path, form, arrays)), 0), emotion.load(config(), 0))


def test_a_folder_of_arrays_for_all_splits_is_the_same_too(tmp_path: Path, arrays) -> None:
    parts = nested(arrays)
    for role, name in {"text": "text", "audio": "audio", "vision": "video", "labels": "labels", "id": "ids"}.items():
        np.save(tmp_path / f"{name}.npy", np.concatenate([parts[split][role] for split in parts]))
    np.save(tmp_path / "split.npy", np.repeat(list(parts), [len(parts[s]["id"]) for s in parts]))
    assert_same(emotion.load(config(tmp_path), 0), emotion.load(config(), 0))


def test_joined_utterances_with_lengths_are_those_that_were_padded(tmp_path: Path, arrays) -> None:
    joined = dict(arrays)
    for split in ("train", "valid", "test"):
        text = arrays[f"{split}/text"]
        real = (text != 0).any(2)
        joined[f"{split}/text"], joined[f"{split}/text.lengths"] = text[real], real.sum(1)
    np.savez(tmp_path / "file.npz", **joined)
    found, expected = emotion.load(config(tmp_path / "file.npz"), 0), emotion.load(config(), 0)
    assert_same(found, expected)


def test_lengths_that_were_counted_beat_zeros(tmp_path: Path, arrays) -> None:
    counted = arrays | {f"{s}/text_lengths": np.full(len(arrays[f"{s}/id"]), 2) for s in ("train", "valid", "test")}
    np.savez(tmp_path / "file.npz", **counted)
    text = emotion.load(config(tmp_path / "file.npz"), 0).train.inputs["text"]
    assert text[:, :2, 0].all() and not text[:, 2:].any()


def test_padding_in_front_and_behind_is_the_same(tmp_path: Path, arrays) -> None:
    turned = dict(arrays)
    for split in ("train", "valid", "test"):
        text = arrays[f"{split}/text"]
        first = np.argsort((text != 0).any(2), axis=1, kind="stable")
        turned[f"{split}/text"] = np.take_along_axis(text, first[:, :, None], 1)
    np.savez(tmp_path / "file.npz", **turned)
    assert_same(emotion.load(config(tmp_path / "file.npz"), 0), emotion.load(config(), 0))


def test_steps_are_standardized_by_the_training_utterances_alone(arrays) -> None:
    train = emotion.load(config(), 0).train.inputs["text"]
    real = train[train[:, :, 0] > 0][:, 1:]
    assert real.mean(0).abs().max() < 1e-4 and (real.std(0) - 1).abs().max() < 1e-2
    shifted = {name: v + 7 if name == "test/text" else v for name, v in arrays.items()}
    marked = mark_steps(shifted["test/text"], (arrays["test/text"] != 0).any(2), 20)
    both = np.concatenate([mark_steps(arrays["train/text"], (arrays["train/text"] != 0).any(2), 20), marked])
    values, _ = standardize_steps(both, np.arange(len(both)) < len(arrays["train/text"]))
    np.testing.assert_allclose(values[: len(train)], train, atol=1e-4)


def test_a_value_that_is_missing_inside_an_utterance_stands_at_the_mean() -> None:
    values = np.array([[[1.0, 10.0], [np.nan, 20.0], [3.0, -np.inf], [9, 9]]])
    marked = mark_steps(values, np.array([[True, True, True, False]]), 4)
    found, _ = standardize_steps(marked, np.array([True]))
    np.testing.assert_allclose(found[0], [[1, -1, -1], [1, 0, 1], [1, 1, 0], [0, 0, 0]], atol=1e-6)


def test_frames_without_a_face_take_no_part_in_the_mean(arrays) -> None:
    video = arrays["train/vision"]
    splits = emotion.load(config(), 0)
    known = splits.train.present[:, 2]
    means = np.stack([v[(np.nan_to_num(v) != 0).any(1)].mean(0) for v in video[known.numpy()]])
    expected = (means - means.mean(0)) / means.std(0)
    np.testing.assert_allclose(splits.train.inputs["video"][known], expected, atol=1e-3)


def test_a_modality_is_absent_where_it_has_no_step_or_only_nan(tmp_path: Path, arrays) -> None:
    gone = {name: values.copy() for name, values in arrays.items()}
    gone["train/text"][0], gone["train/audio"][1], gone["test/vision"][2] = 0, np.nan, np.nan
    np.savez(tmp_path / "file.npz", **gone)
    splits = emotion.load(config(tmp_path / "file.npz"), 0)
    names = list(splits.train.inputs)
    assert not splits.train.present[0, names.index("text")]
    assert not splits.train.present[1, names.index("audio")]
    assert not splits.test.present[2, names.index("video")]
    assert not splits.train.inputs["text"][0].any()
    # One in ten is missing by the design, of each.
    assert 0.8 < splits.train.present.float().mean() < 0.95


def test_a_sequence_is_cut_after_so_many_steps() -> None:
    whole, cut = (emotion.load(config(max_steps=n), 0) for n in (None, 5))
    assert cut.train.inputs["text"].shape[1:] == (5, 301)
    torch.testing.assert_close(cut.train.inputs["text"][:, :, 0], whole.train.inputs["text"][:, :5, 0])


def test_modalities_named_as_sequences_keep_their_steps() -> None:
    found = emotion.load(config(sequences=("text", "audio")), 0)
    assert [m.shape for m in found.modalities] == [(20, 301), (20, 75), (35,)]


# Labels


@pytest.mark.parametrize(
    ("values", "task", "expected"),
    [
        ([0, 1, 1], "sentiment", [0, 1, 1]),
        ([[[-0.2]], [[0.0]], [[2.4]]], "sentiment", [0, 1, 1]),
        ([1.0, np.nan, 0.0], "happy", [1, -1, 0]),
        ([[0, 1], [1, 0]], "sad", [1, 0]),
        ([[0, 1, 0, 0], [1, 0, 0, 0]], "happy", [1, 0]),
        (np.eye(2)[np.array([[0, 0, 1, 0], [0, 0, 0, 1]])], "sad", [1, 0]),
        (np.eye(2)[np.array([[0, 0, 1, 0], [0, 0, 0, 1]])], "angry", [0, 1]),
    ],
)
def test_labels_of_every_shape_become_yes_or_no(values, task, expected) -> None:
    assert read_labels(np.asarray(values, dtype=float), task).tolist() == expected


@pytest.mark.parametrize(("values", "task"), [([0.5, 2.0], "happy"), ([[1, 2, 3], [0, 1, 0]], "sentiment")])
def test_labels_that_say_nothing_about_the_task_are_refused(values, task) -> None:
    with pytest.raises(ValueError, match=task):
        read_labels(np.asarray(values, dtype=float), task)


def test_a_task_picks_its_own_arrays(tmp_path: Path, arrays) -> None:
    """As in the files of the authors of LMF: emotion, split, feature."""
    names = {"text": "glove", "audio": "covarep", "vision": "facet", "labels": "label"}
    file = {
        f"{task}/{split}/{names[role]}": values
        if role != "labels"
        else np.eye(2)[values if task == "angry" else 1 - values]
        for task in ("angry", "happy")
        for split, roles in nested(arrays).items()
        for role, values in roles.items()
        if role in names
    }
    np.savez(tmp_path / "file.npz", **file)
    angry, happy = (emotion.load(replace(config(tmp_path / "file.npz"), task=t), 0) for t in ("angry", "happy"))
    assert angry.test.labels.tolist() == (1 - happy.test.labels).tolist() == arrays["test/labels"].tolist()


# Who is where


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("Ses01F_impro01_M003", "Ses01M"),
        ("Ses05M_script01_1_F012", "Ses05F"),
        ("03bSnISJMiM$_$11", "03bSnISJMiM"),
        ("03bSnISJMiM[1.2,3.4]", "03bSnISJMiM"),
        ("alone", "alone"),
    ],
)
def test_an_utterance_belongs_to_its_speaker_or_video(name: str, group: str) -> None:
    assert group_of(name) == group


@pytest.mark.parametrize("split", ["given", "drawn"])
def test_nobody_is_in_two_splits(split: str) -> None:
    splits = emotion.load(config(split=split), 0)
    people = [set(part.groups) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, people)) == len(set.union(*people)) == 10
    assert splits.train.nuisance_groups == splits.train.groups


def test_a_given_split_through_a_speaker_is_refused_with_the_way_out(tmp_path: Path, arrays) -> None:
    crossed = arrays | {"test/id": np.array([f"Ses01F_impro99_F{i:04d}" for i in range(len(arrays["test/id"]))])}
    np.savez(tmp_path / "file.npz", **crossed)
    with pytest.raises(ValueError, match=r"group 'Ses01F' is in train and in test.*data.split=drawn"):
        emotion.load(config(tmp_path / "file.npz"), 0)
    assert len(emotion.load(config(tmp_path / "file.npz", split="drawn"), 0).test)


def test_validation_is_a_fifth_of_the_training_videos_where_none_is_given(tmp_path: Path) -> None:
    arrays = simulate(StandIn(scale=0.3), "sentiment", seed=0)
    kept = {name: values for name, values in arrays.items() if not name.startswith("valid")}
    np.savez(tmp_path / "file.npz", **kept)
    settings = EmotionConfig(path=str(tmp_path / "file.npz"), label_rate=0.1)
    one, other = emotion.load(settings, 0), emotion.load(settings, 1)
    assert len(one.validation) + len(one.train) == len(arrays["train/id"])
    assert 0.15 < len(one.validation) / len(arrays["train/id"]) < 0.25
    assert not set(one.validation.groups) & set(one.train.groups)
    assert one.test.sample_ids == other.test.sample_ids and one.train.sample_ids != other.train.sample_ids


def test_only_the_label_rate_is_shown() -> None:
    splits = emotion.load(replace(config(), label_rate=0.1), 0)
    assert int((splits.train.labels >= 0).sum()) == round(0.1 * len(splits.train))
    assert (splits.test.labels >= 0).all()


# What cannot be read


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "file.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match=r"convert_pickle file.pkl file.npz"):
        emotion.load(config(tmp_path / "file.pkl"), 0)


def test_a_file_without_a_known_layout_says_what_it_holds_and_takes_names(tmp_path: Path, arrays) -> None:
    renamed = {name.replace("/", "-"): values for name, values in arrays.items()}
    np.savez(tmp_path / "file.npz", **renamed)
    with pytest.raises(ValueError, match=r"file.npz: it holds test-audio.*no known layout"):
        emotion.load(config(tmp_path / "file.npz"), 0)
    names = {"text": "{split}-text", "audio": "{split}-audio", "video": "{split}-vision"}
    names |= {"labels": "{split}-labels", "ids": "{split}-id"}
    assert_same(emotion.load(config(tmp_path / "file.npz", arrays=names), 0), emotion.load(config(), 0))


def test_features_that_differ_between_splits_are_refused(tmp_path: Path, arrays) -> None:
    np.savez(tmp_path / "file.npz", **(arrays | {"test/text": arrays["test/text"][:, :, :10]}))
    with pytest.raises(ValueError, match="text has shapes"):
        emotion.load(config(tmp_path / "file.npz"), 0)


def test_an_array_with_a_row_too_many_is_named(tmp_path: Path, arrays) -> None:
    np.savez(tmp_path / "file.npz", **(arrays | {"test/vision": np.repeat(arrays["test/vision"], 2, axis=0)}))
    with pytest.raises(ValueError, match="test/vision has 94 utterances and its labels 47"):
        emotion.load(config(tmp_path / "file.npz"), 0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.npz"):
        emotion.load(config(tmp_path / "nothing.npz"), 0)


@pytest.mark.skipif(not REAL.is_file(), reason=f"the real MOSI features are not at {REAL}")
def test_the_real_utterances_of_mosi_are_read() -> None:
    splits = emotion.load(EmotionConfig(path=str(REAL), label_rate=0.01), 0)
    assert [(m.name, m.shape) for m in splits.modalities] == [("text", (100,)), ("audio", (73,)), ("video", (100,))]
    assert len(splits.train) + len(splits.validation) == 1447 and len(splits.test) == 752
    assert not set(splits.train.groups) & (set(splits.validation.groups) | set(splits.test.groups))
