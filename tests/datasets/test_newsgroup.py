"""News posts become three views of word counts, from a folder, an archive or the distributed file."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from adni_tcgm.datasets import newsgroup, newsgroup_text
from adni_tcgm.datasets.newsgroup import SUBSETS, VIEWS, NewsgroupConfig, Subset, fingerprint, load
from adni_tcgm.datasets.newsgroup_text import body, read_posts, words
from adni_tcgm.tcgm.batch import UNLABELED, Splits

NEWS = Path(__file__).parents[2] / "../shared/data/newsgroup"
GROUPS = SUBSETS["m5"].groups
POSTS = 64
DOCUMENTS = 20
VOCABULARY = [a + b + c for a in "bdfgk" for b in "aeiou" for c in ("lmo", "rni", "sta", "zzu")]


@pytest.fixture(scope="module")
def texts() -> dict[str, dict[str, str]]:
    """group -> post id -> post: 64 a group, 30 words each, each group preferring its own fifth, and a unique one."""
    rng = np.random.default_rng(0)
    posts: dict[str, dict[str, str]] = {}
    for position, group in enumerate(GROUPS):
        weight = np.ones(len(VOCABULARY))
        weight[position * 20 : position * 20 + 20] = 4
        posts[group] = {}
        for number in range(POSTS):
            unique = "qq" + chr(97 + position) + chr(97 + number // 26) + chr(97 + number % 26)
            drawn = [*rng.choice(VOCABULARY, 30, p=weight / weight.sum()), unique]
            posts[group][str(1000 + number)] = f"Newsgroups: {group}\nOrganization: headerword\n\n{' '.join(drawn)}\n"
    return posts


@pytest.fixture(scope="module")
def folder(texts, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("news") / "20_newsgroup"
    for group, posts in texts.items():
        (root / group).mkdir(parents=True)
        for name, text in posts.items():
            (root / group / name).write_text(text, "latin-1")
    return root


@pytest.fixture(autouse=True)
def small_subset(monkeypatch):
    monkeypatch.setitem(SUBSETS, "m5", Subset(GROUPS, DOCUMENTS))


def config(path: Path, **options) -> NewsgroupConfig:
    return NewsgroupConfig(str(path), words=options.pop("words", 40), **options)


def write_archive(path: Path, texts: dict[str, dict[str, str]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for group, posts in texts.items():
            for name, text in posts.items():
                member = tarfile.TarInfo(f"20_newsgroup/{group}/{name}")
                member.size = len(text.encode("latin-1"))
                archive.addfile(member, io.BytesIO(text.encode("latin-1")))
    return path


def rows(splits: Splits) -> dict[str, list[torch.Tensor]]:
    """sample id -> its row in each view."""
    parts = (splits.train, splits.validation, splits.test)
    return {
        name: [values[i] for values in part.inputs.values()] for part in parts for i, name in enumerate(part.sample_ids)
    }


def documents_of(sample_id: str) -> list[str]:
    group, _, names = sample_id.partition("/")
    return [f"{group}/{name}" for name in names.split("+")]


def same(one: Splits, other: Splits) -> bool:
    if list(one.rows) != list(other.rows):
        return False
    return all(
        torch.equal(a, b) for name, row in rows(one).items() for a, b in zip(row, rows(other)[name], strict=True)
    )


def capture_arrays(monkeypatch) -> list:
    """The arrays that `load` hands over, before any transform."""
    seen = []
    original = newsgroup.to_splits
    monkeypatch.setattr(newsgroup, "to_splits", lambda arrays, *rest: seen.append(arrays) or original(arrays, *rest))
    return seen


def test_of_the_header_only_the_subject_is_text_wherever_it_names_the_group():
    header = "Path: a!b\nSUBJECT: Orbit\nNewsgroups: sci.space\n\n"
    post = f"{header}talk\n> Newsgroups: sci.space\r\nXref: x sci.space\nthe moon\n"
    assert words(body(post)) == ["orbit", "talk", "moon"]
    assert words(body(post.replace("\r", "").replace("\n", "\r\n"))) == ["orbit", "talk", "moon"]


def test_names_of_groups_are_no_text():
    assert words(body("Path: a\n\nPosted to Sci.Space, rec.sport.hockey: rec.\n")) == ["posted", "rec"]


def test_words_are_lower_case_letters_without_stop_words():
    assert words("The Shuttle's 2nd orbit is an_odd one: re-entry at mach25, na\xefve OK") == [
        "shuttle",
        "orbit",
        "entry",
    ]


def test_words_of_the_header_are_in_no_view(folder, monkeypatch):
    counted = []
    original = newsgroup.CountVectorizer.fit_transform
    monkeypatch.setattr(
        newsgroup.CountVectorizer,
        "fit_transform",
        lambda self, documents: [original(self, documents), counted.append(set(self.vocabulary_))][0],
    )
    load(config(folder), 0)
    assert len(counted) == 3
    for vocabulary in counted:
        assert set(VOCABULARY) <= vocabulary and all(w in VOCABULARY or w.startswith("qq") for w in vocabulary)


def test_an_archive_gives_what_its_folder_gives(folder, texts, tmp_path):
    archive = write_archive(tmp_path / "news.tar.gz", texts)
    assert same(load(config(folder), 0), load(config(archive), 0))


def test_an_archive_is_read_without_writing_anything(texts, tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "news.tar.gz", {**texts, "../../outside": {"1": "a\n\nb"}})
    monkeypatch.chdir(tmp_path)
    load(config(archive), 0)
    assert list(tmp_path.rglob("*")) == [archive]


def test_a_post_in_two_groups_is_left_out_and_a_repeated_one_stays_once(texts, tmp_path):
    first, second = GROUPS[:2]
    crossed, repeated = texts[first]["1000"], texts[first]["1001"]
    more = {first: {**texts[first], "9999": repeated, "9998": "Subject: \n\n1 2 3\n"}}
    more |= {second: {**texts[second], "9000": crossed.replace("headerword", "another header")}}
    posts = read_posts(str(write_archive(tmp_path / "news.tar.gz", {**texts, **more})), GROUPS)
    assert set(posts[first]) == set(texts[first]) - {"1000"} and set(posts[second]) == set(texts[second])


def test_paired_views_are_of_one_document(folder, texts, monkeypatch):
    seen = capture_arrays(monkeypatch)
    load(config(folder, words=100), 0)
    (arrays,) = seen
    for row, name in enumerate(arrays.sample_ids):
        ((group, post),) = (document.split("/") for document in documents_of(name))
        text = words(body(texts[group][post]))
        expected = [text.count(word) for word in sorted(VOCABULARY)]
        assert all(values[row].toarray()[0].tolist() == expected for values in arrays.views.values())


def test_class_paired_views_are_of_three_documents_of_one_class_and_none_is_used_twice(folder, texts, monkeypatch):
    seen = capture_arrays(monkeypatch)
    load(config(folder, words=100, pairing="class_paired"), 0)
    (arrays,) = seen
    used = [document for name in arrays.sample_ids for document in documents_of(name)]
    assert len(used) == len(set(used)) == 3 * 5 * DOCUMENTS
    for row, name in enumerate(arrays.sample_ids):
        assert name.startswith(arrays.classes[arrays.labels[row]] + "/")
        for document, values in zip(documents_of(name), arrays.views.values(), strict=True):
            group, post = document.split("/")
            text = words(body(texts[group][post]))
            assert values[row].toarray()[0].tolist() == [text.count(word) for word in sorted(VOCABULARY)]


def test_the_seed_draws_the_documents_and_repeats_them(folder):
    first, again, other = (load(config(folder), seed) for seed in (0, 0, 1))
    assert same(first, again)
    assert set(rows(first)) != set(rows(other))


def test_every_class_has_its_documents_and_every_view_its_words(folder):
    splits = load(config(folder, words=25), 0)
    assert [(modality.name, modality.shape) for modality in splits.modalities] == [(view, (25,)) for view in VIEWS]
    assert splits.classes == GROUPS
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [60, 20, 20]
    assert [sum(row.label == group for row in splits.rows) for group in GROUPS] == [DOCUMENTS] * 5
    assert int((splits.train.labels != UNLABELED).sum()) == 6


def permute_hidden(texts: dict[str, dict[str, str]], splits: Splits) -> dict[str, dict[str, str]]:
    """Each text of a document whose label is hidden moves to the next such document, mostly of another class."""
    hidden = [row.sample_id for row in splits.rows if row.split != "train" or not row.label_visible]
    moved = {group: dict(posts) for group, posts in texts.items()}
    # Every fifth of the list after each other, so that the class changes from one to the next.
    order = [name for start in range(DOCUMENTS) for name in hidden[start::DOCUMENTS]]
    for source, target in zip(order, order[1:] + order[:1], strict=True):
        (a, b), (c, d) = source.split("/"), target.split("/")
        moved[c][d] = texts[a][b]
    return moved


def chosen_columns(path: Path, view: str, monkeypatch, **options) -> list[int]:
    chosen = []
    original = getattr(newsgroup, f"select_{view}")
    with monkeypatch.context() as patch:
        patch.setattr(newsgroup, f"select_{view}", lambda *a: chosen.append(original(*a)) or chosen[-1])
        load(config(path, words=20, **options), 0)
    return chosen[0].tolist()


@pytest.fixture
def moved(folder, texts, tmp_path) -> Path:
    """An archive in which hidden documents' texts change class, which is to permute their labels."""
    return write_archive(tmp_path / "moved.tar.gz", permute_hidden(texts, load(config(folder), 0)))


def test_smi_by_visible_labels_does_not_change_with_hidden_labels(folder, moved, monkeypatch):
    before, after = (chosen_columns(path, "smi", monkeypatch, smi="visible_labels") for path in (folder, moved))
    assert before == after


def test_smi_by_all_labels_changes_with_hidden_labels_because_it_looks_at_them(folder, moved, monkeypatch):
    before, after = (chosen_columns(path, "smi", monkeypatch, smi="all_labels") for path in (folder, moved))
    assert before != after


def test_smi_by_visible_labels_looks_at_them(folder, monkeypatch):
    few, many = (
        chosen_columns(folder, "smi", monkeypatch, smi="visible_labels", label_rate=rate) for rate in (0.1, 1.0)
    )
    assert few != many


@pytest.mark.parametrize("view", ["pam", "umi"])
def test_pam_and_umi_choose_the_same_words_whatever_the_labels(view, folder, moved, monkeypatch):
    assert chosen_columns(folder, view, monkeypatch) == chosen_columns(moved, view, monkeypatch)


def test_scikit_learn_posts_go_the_same_way(texts, folder, monkeypatch):
    class Found:
        target_names = list(GROUPS)
        data = [text for posts in texts.values() for text in posts.values()]
        target = np.repeat(np.arange(5), POSTS)
        filenames = [f"cache/20news/{group}/{name}" for group, posts in texts.items() for name in posts]

    monkeypatch.setattr(newsgroup_text, "fetch_20newsgroups", lambda **_: Found)
    assert same(load(NewsgroupConfig(words=40), 0), load(config(folder), 0))
    assert fingerprint(NewsgroupConfig()) == "fetch_20newsgroups"


def write_mat(path: Path, words: int = 6, classes: int = 5, views: int = 3, shift: int = 0) -> Path:
    rng = np.random.default_rng(0)
    data, truth = np.empty((1, views), dtype=object), np.empty((1, views), dtype=object)
    for view in range(views):
        data[0, view] = rng.poisson(1.0, (words, 10 * classes)).astype(np.uint8)
        truth[0, view] = np.roll(np.repeat(np.arange(1, classes + 1), 10), shift * view)[None]
    savemat(path, {"data": data, "truelabel": truth})
    return path


def test_a_mat_file_is_class_paired_and_gives_its_counts_in_the_order_of_the_views(tmp_path, monkeypatch):
    seen = capture_arrays(monkeypatch)
    path = write_mat(tmp_path / "NGs.mat")
    settings = config(path, words=6)
    load(settings, 0)
    assert settings.pairing == "class_paired"
    cells = loadmat(path)["data"].ravel()
    for cell, view in zip(cells, VIEWS, strict=True):
        assert np.array_equal(seen[0].views[view].toarray(), cell.T)
    assert seen[0].classes == ("1", "2", "3", "4", "5") and seen[0].labels[::10].tolist() == [0, 1, 2, 3, 4]


def test_the_distributed_file_holds_500_documents_of_2000_words_in_5_classes():
    if not (NEWS / "NGs.mat").is_file():
        pytest.skip(f"{NEWS / 'NGs.mat'} is not here")
    splits = load(NewsgroupConfig(str(NEWS / "NGs.mat")), 0)
    assert [modality.shape for modality in splits.modalities] == [(2000,)] * 3
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [300, 100, 100]
    assert len(splits.classes) == 5
    non_zeros = [(values != 0).sum(1).float().mean() for values in splits.train.inputs.values()]
    assert 40 < non_zeros[0] < 60 and 30 < non_zeros[1] < 45 and 10 < non_zeros[2] < 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": "m3"}, "groups is 'm3'; choose one of m2, m5, m10"),
        ({"pairing": "both"}, "pairing is 'both'"),
        ({"smi": "none"}, "smi is 'none'"),
        ({"transform": "bm25"}, "transform is 'bm25'"),
        ({"words": 0}, "words is 0"),
        ({"label_rate": 0.0}, "label_rate is 0.0"),
        ({"path": "NGs.mat", "pairing": "paired"}, "NGs.mat can only be read as class_paired"),
        ({"path": "NGs.mat", "smi": "visible_labels"}, "smi is 'visible_labels'; NGs.mat can only"),
    ],
)
def test_an_impossible_setting_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        NewsgroupConfig(**options)


def test_raw_posts_are_paired_unless_asked_otherwise():
    assert NewsgroupConfig("posts.tar.gz").pairing == "paired"


def test_data_that_do_not_fit_are_refused_with_the_file_and_what_is_expected(folder, texts, tmp_path):
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(write_archive(tmp_path / "whole.tar.gz", texts).read_bytes()[:5000])
    few = write_archive(tmp_path / "few.tar.gz", {group: dict(list(texts[group].items())[:15]) for group in GROUPS})
    without = write_archive(tmp_path / "without.tar.gz", {group: texts[group] for group in GROUPS[1:]})
    (tmp_path / "text.mat").write_text("no mat file " * 100)
    savemat(tmp_path / "other.mat", {"x": np.zeros(3)})
    cases = [
        (config(tmp_path / "absent.tar.gz"), FileNotFoundError, "absent.tar.gz: nothing here"),
        (config(tmp_path / "absent.mat"), FileNotFoundError, "absent.mat: nothing here"),
        (config(broken), ValueError, "broken.tar.gz: cannot be read"),
        (config(without), ValueError, "without.tar.gz: no posts of comp.graphics"),
        (config(few), ValueError, "comp.graphics has 15 posts .* paired views need 20"),
        (config(folder, pairing="class_paired", words=101), ValueError, "words is 101; only 100 occur in 2 or more"),
        (config(tmp_path / "text.mat"), ValueError, "text.mat: expected `data` and `truelabel`"),
        (config(tmp_path / "other.mat"), ValueError, "other.mat: expected `data` and `truelabel`"),
        (config(write_mat(tmp_path / "two.mat", views=2), words=6), ValueError, "two.mat: data has cells"),
        (config(write_mat(tmp_path / "six.mat"), words=7), ValueError, "expected 3 of .7 words, 50 documents"),
        (
            config(write_mat(tmp_path / "rolled.mat", shift=1), words=6),
            ValueError,
            "rolled.mat: the cells of truelabel",
        ),
        (config(write_mat(tmp_path / "four.mat", classes=4), words=6), ValueError, "four.mat: 4 classes"),
    ]
    for settings, kind, message in cases:
        with pytest.raises(kind, match=message):
            load(settings, 0)


def test_the_fingerprint_changes_with_the_data_only(folder, texts, tmp_path):
    archive = write_archive(tmp_path / "news.tar.gz", texts)
    for path in (folder, archive):
        assert fingerprint(config(path)) == fingerprint(replace(config(path), words=7))
    one, other = fingerprint(config(tmp_path)), archive.write_bytes(b"shorter")
    assert other and fingerprint(config(tmp_path)) != one


def test_further_unlabeled_documents_train_without_changing_the_others(folder, monkeypatch):
    seen = capture_arrays(monkeypatch)
    plain, more = (load(config(folder, unlabeled=n), 3) for n in (0, 7))
    extra = set(more.train.sample_ids) - set(plain.train.sample_ids)
    assert len(extra) == 7 * len(GROUPS) and not any(row.label for row in more.rows if row.sample_id in extra)
    assert [row for row in more.rows if row.sample_id not in extra] == list(plain.rows)
    assert more.validation.sample_ids == plain.validation.sample_ids
    documents = [document for arrays in seen[1:] for name in arrays.sample_ids for document in documents_of(name)]
    assert len(set(documents)) == len(documents)
    with pytest.raises(ValueError, match="unlabeled is -1"):
        config(folder, unlabeled=-1)
