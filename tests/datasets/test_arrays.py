"""Other people's modalities, from a file or a folder, without code."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.io import savemat

from adni_tcgm.datasets.arrays import ArraysConfig, fingerprint, load
from adni_tcgm.tcgm.batch import UNLABELED

GENERATOR = np.random.default_rng(0)
LABELS = np.arange(50) % 2
WORDS = GENERATOR.poisson(1.0, (50, 6)).astype(float)
SOUND = GENERATOR.standard_normal((50, 3)) + LABELS[:, None]
VIEWS = {"text": "words", "audio": "sound"}


def config(path, **settings) -> ArraysConfig:
    return ArraysConfig(str(path), views=dict(VIEWS), labels="y", **settings)


def write_npz(folder, **more):
    path = folder / "data.npz"
    np.savez(path, words=WORDS, sound=SOUND, **{"y": LABELS, **more})
    return path


def test_npz_mat_and_folder_give_the_same_splits(tmp_path):
    write_npz(tmp_path)
    savemat(tmp_path / "data.mat", {"words": sparse.csc_matrix(WORDS), "sound": SOUND, "y": LABELS})
    folder = tmp_path / "folder"
    folder.mkdir()
    sparse.save_npz(folder / "words.npz", sparse.csr_matrix(WORDS))
    pd.DataFrame(SOUND).to_csv(folder / "sound.tsv", sep="\t", index=False)
    np.save(folder / "y.npy", LABELS)
    splits = [load(config(tmp_path / name), seed=1) for name in ("data.npz", "data.mat", "folder")]
    for other in splits[1:]:
        assert other.rows == splits[0].rows and other.classes == ("0", "1")
        for name in VIEWS:
            torch.testing.assert_close(other.train.inputs[name], splits[0].train.inputs[name])
    assert (len(splits[0].train), len(splits[0].validation), len(splits[0].test)) == (30, 10, 10)
    assert (splits[0].train.labels != UNLABELED).sum() == 3


def test_a_given_split_groups_and_nuisance_groups_are_kept(tmp_path):
    split = np.repeat(["train", "validation", "test", ""], [20, 10, 15, 5])
    speaker = np.array([f"s{i // 5}" for i in range(50)])
    path = write_npz(tmp_path, part=split, who=speaker)
    splits = load(config(path, split="part", groups="who", nuisance_groups="who"), seed=0)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (20, 10, 15)
    assert splits.train.sample_ids == [str(i) for i in range(20)]
    assert splits.test.nuisance_groups == list(speaker[30:45]) and splits.rows[0].group_id == "s0"
    speaker[25] = "s0"
    with pytest.raises(ValueError, match="group 's0' is in train and in validation"):
        load(config(write_npz(tmp_path, part=split, who=speaker), split="part", groups="who"), seed=0)


def test_a_row_of_nan_is_a_sample_without_that_modality_and_one_without_any_is_left_out(tmp_path):
    words, sound = WORDS.copy(), SOUND.copy()
    sound[[3, 7]], words[7] = np.nan, np.nan
    np.savez(tmp_path / "data.npz", words=words, sound=sound, y=LABELS)
    splits = load(config(tmp_path / "data.npz", transform={"text": "log", "audio": "zscore"}), seed=0)
    present = {
        name: p
        for b in (splits.train, splits.validation, splits.test)
        for name, p in zip(b.sample_ids, b.present.tolist(), strict=True)
    }
    assert len(present) == 49 and "7" not in present
    assert present.pop("3") == [True, False] and all(p == [True, True] for p in present.values())


def test_labels_may_be_text_and_unknown(tmp_path):
    names = np.where(LABELS == 1, "yes", "no").astype("<U4")
    names[[0, 1]] = ""
    splits = load(config(write_npz(tmp_path, y=names), label_rate=1.0), seed=0)
    assert splits.classes == ("no", "yes")
    hidden = [row for row in splits.rows if not row.label]
    assert [(row.sample_id, row.split) for row in hidden] == [("0", "train"), ("1", "train")]


def test_tables_that_name_their_samples_are_lined_up(tmp_path):
    ids = [f"doc{i}" for i in range(50)]
    first = pd.DataFrame(WORDS).assign(sample_id=ids)
    second = pd.DataFrame(SOUND).assign(sample_id=ids).iloc[::-1]
    second[second.sample_id != "doc9"].to_csv(tmp_path / "sound.tsv", sep="\t", index=False)
    pd.DataFrame({"sample_id": ids, "y": LABELS, "who": ids}).to_csv(tmp_path / "about.tsv", sep="\t", index=False)
    first.to_csv(tmp_path / "words.tsv", sep="\t", index=False)
    settings = ArraysConfig(str(tmp_path), views=VIEWS, labels="about.y", groups="about.who", transform="raw")
    batch = load(settings, seed=0).train
    for row, name in enumerate(batch.sample_ids):
        index = int(name[3:])
        there = index != 9
        assert batch.present[row].tolist() == [True, there]
        np.testing.assert_allclose(batch.inputs["audio"][row], SOUND[index] * there, rtol=1e-6)


def test_what_is_wrong_is_named(tmp_path):
    path = write_npz(tmp_path)
    with pytest.raises(ValueError, match="no array 'sounds' for view 'audio'; it holds sound, words, y"):
        load(ArraysConfig(str(path), views={"audio": "sounds"}, labels="y"), seed=0)
    with pytest.raises(ValueError, match="'words' has 49 rows|'text' has 49 rows; there are 50"):
        np.savez(path, words=WORDS[:49], sound=SOUND, y=LABELS)
        load(config(path), seed=0)
    with pytest.raises(FileNotFoundError, match="nothing here"):
        load(config(tmp_path / "absent.npz"), seed=0)
    with pytest.raises(ValueError, match="at least 2 are needed"):
        load(config(write_npz(tmp_path, y=np.zeros(50))), seed=0)
    with pytest.raises(ValueError, match="modality 'text': row .* not negative"):
        np.savez(path, words=-WORDS - 1, sound=SOUND, y=LABELS)
        load(config(path, transform={"text": "log", "audio": "zscore"}), seed=0)


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, words=WORDS, sound=SOUND, y=np.array([{"a": 1}] * 50, dtype=object))
    with pytest.raises(ValueError, match="cannot be read: Object arrays cannot be loaded"):
        load(config(path), seed=0)


def test_the_fingerprint_changes_with_the_data_only(tmp_path):
    path = write_npz(tmp_path)
    before = fingerprint(config(path))
    assert fingerprint(config(path, label_rate=0.5)) == before
    write_npz(tmp_path, y=1 - LABELS)
    assert fingerprint(config(path)) != before


def write_tables(folder, name: str, ids: list) -> None:
    """Two tables with the ids in a column `name`, the second one in another order; and labels."""
    words = pd.DataFrame(WORDS, columns=list("abcdef")).assign(**{name: ids})
    sound = pd.DataFrame(SOUND, columns=list("xyz")).assign(**{name: ids})
    words.to_csv(folder / "words.tsv", sep="\t", index=False)
    sound.sample(frac=1, random_state=0).to_csv(folder / "sound.tsv", sep="\t", index=False)
    pd.DataFrame({name: ids, "y": LABELS}).to_csv(folder / "about.tsv", sep="\t", index=False)


def by_name(splits) -> dict[str, list[float]]:
    return dict(zip(splits.train.sample_ids, splits.train.inputs["audio"].tolist(), strict=True))


@pytest.mark.parametrize("name", ["sample_id", "id", "RID", "Teilnehmer"])
@pytest.mark.parametrize("kind", [str, int])
def test_tables_are_lined_up_by_the_column_they_share_whatever_it_is_called(tmp_path, name, kind):
    ids = [f"p{i}" if kind is str else 1000 - i for i in range(50)]
    write_tables(tmp_path, name, ids)
    splits = load(ArraysConfig(str(tmp_path), views=dict(VIEWS), labels="about.y", transform="raw"), seed=0)
    expected = {str(i): pytest.approx(values) for i, values in zip(ids, SOUND.tolist(), strict=True)}
    assert all(values == expected[i] for i, values in by_name(splits).items())
    assert splits.train.inputs["text"].shape[1] == 6  # the ids are no feature


def test_tables_that_share_no_ids_are_refused_unless_their_rows_are_said_to_be_aligned(tmp_path):
    pd.DataFrame(WORDS).to_csv(tmp_path / "words.tsv", sep="\t", index=False)
    pd.DataFrame(SOUND).to_csv(tmp_path / "sound.tsv", sep="\t", index=False)
    np.save(tmp_path / "y.npy", LABELS)
    (tmp_path / "notes.tsv").write_text("what\nnothing\n")  # nobody asks for it
    with pytest.raises(ValueError, match="sound.tsv, words.tsv share no column of sample ids.*rows: aligned"):
        load(config(tmp_path), seed=0)
    splits = load(config(tmp_path, rows="aligned", transform="raw"), seed=0)
    assert all(values == pytest.approx(SOUND[int(i)].tolist()) for i, values in by_name(splits).items())


def test_two_columns_that_could_be_ids_are_asked_about(tmp_path):
    write_tables(tmp_path, "id", [f"p{i}" for i in range(50)])
    for file in tmp_path.glob("*.tsv"):
        table = pd.read_csv(file, sep="\t")
        table.assign(row=np.arange(50)).to_csv(file, sep="\t", index=False)
    settings = {"views": dict(VIEWS), "labels": "about.y"}
    with pytest.raises(ValueError, match="several columns that could name the samples: id, row; .*ids: NAME"):
        load(ArraysConfig(str(tmp_path), **settings), seed=0)
    assert set(load(ArraysConfig(str(tmp_path), ids="id", **settings), seed=0).train.sample_ids) <= {
        f"p{i}" for i in range(50)
    }
    with pytest.raises(ValueError, match="about.tsv: no column 'nobody'"):
        load(ArraysConfig(str(tmp_path), ids="nobody", **settings), seed=0)
    with pytest.raises(ValueError, match="give one of them"):
        ArraysConfig(str(tmp_path), ids="id", rows="aligned", **settings)
