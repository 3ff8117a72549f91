"""News classification: subsets of 20 Newsgroups, each document seen through three choices of words."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from sklearn.feature_extraction.text import CountVectorizer

from adni_tcgm.choices import check_choices, choice
from adni_tcgm.datasets.multiview import Arrays, to_splits
from adni_tcgm.datasets.newsgroup_text import Posts, read_posts
from adni_tcgm.datasets.newsgroup_views import select_pam, select_smi, select_umi
from adni_tcgm.datasets.splitting import check_label_rate, draw_splits, draw_visible
from adni_tcgm.tcgm.batch import UNLABELED, Splits
from adni_tcgm.transforms import TRANSFORMS

VIEWS = ("pam", "smi", "umi")
PAIRINGS = ("paired", "class_paired")
MIN_DOCUMENTS = 2  # A word of a single document links it to no other one.


@dataclass(frozen=True)
class Subset:
    """Newsgroups, each a class, and how many documents of each are drawn.

    >>> len(SUBSETS["m5"].groups)
    5
    """

    groups: tuple[str, ...]
    documents: int


# As in Bisson and Grimal, "Co-clustering of multi-view datasets", 2012, and Hussain, Grimal and Bisson, "An improved
# co-similarity measure for document clustering", ICMLA 2010, after the subsets of Slonim and Tishby, SIGIR 2000.
SUBSETS = {
    "m2": Subset(("talk.politics.mideast", "talk.politics.misc"), 250),
    "m5": Subset(
        ("comp.graphics", "rec.motorcycles", "rec.sport.baseball", "sci.space", "talk.politics.mideast"),
        100,
    ),
    "m10": Subset(
        (
            "alt.atheism",
            "comp.sys.mac.hardware",
            "misc.forsale",
            "rec.autos",
            "rec.sport.hockey",
            "sci.crypt",
            "sci.electronics",
            "sci.med",
            "sci.space",
            "talk.politics.guns",
        ),
        100,
    ),
}


@dataclass(frozen=True)
class NewsgroupConfig:
    """What to read, how to see it and how to split it.

    path: the raw posts as a folder or a tar archive, "" for scikit-learn's download, or a .mat file laid out as the
        distributed NGs.mat, whose documents and words are fixed.
    groups: "m2", "m5" or "m10", see SUBSETS.
    pairing: "paired", the three views of a row are of one document; "class_paired", as in NGs.mat, they are of three
        documents of one class. There the views are independent given the class by construction, which is what TCGM
        assumes and what real modalities are not: results of the two never stand as the same. "" becomes "class_paired"
        for a .mat file, which can be nothing else, and "paired" for raw posts.
    smi: whose labels choose the words of the SMI view. "all_labels", as published: those of every document, TEST
        INCLUDED, which flatters every method; "visible_labels": those of the training documents whose label is shown.
    unlabeled: further documents of each group that join training without a label; the published data have none.
    words: how many each view keeps. transform, unit_norm: see `transforms.Transform`.
    label_rate: share of the labeled training samples whose label is shown.

    >>> NewsgroupConfig(groups="m10").words
    2000
    >>> NewsgroupConfig("NGs.mat").is_distributed
    True
    """

    path: str = ""
    groups: str = choice("m5", SUBSETS)
    pairing: str = choice("", ("", *PAIRINGS))
    smi: str = choice("all_labels", ("all_labels", "visible_labels"))
    unlabeled: int = 0
    words: int = 2000
    transform: str = choice("log", TRANSFORMS)
    unit_norm: bool = True
    label_rate: float = 0.1

    def __post_init__(self) -> None:
        if self.unlabeled < 0 or (self.unlabeled and self.is_distributed):
            raise ValueError(f"unlabeled is {self.unlabeled}; it must be 0 for a .mat file and not negative otherwise")
        if not self.pairing:
            # Written here, not worked out by readers, so that saved settings say how a result was obtained.
            object.__setattr__(self, "pairing", "class_paired" if self.is_distributed else "paired")
        check_choices(self)
        check_label_rate(self.label_rate)
        if self.words < 1:
            raise ValueError(f"words is {self.words}; each view keeps at least 1")
        if self.is_distributed and (self.pairing, self.smi) != ("class_paired", "all_labels"):
            raise ValueError(
                f"pairing is {self.pairing!r} and smi is {self.smi!r}; {self.path} can only be read as class_paired "
                f"with all_labels, because its documents and words are fixed"
            )

    @property
    def is_distributed(self) -> bool:
        return Path(self.path).suffix == ".mat"


def load(config: NewsgroupConfig, seed: int) -> Splits:
    """Train, validation and test documents (60/20/20) in the views pam, smi and umi, labels hidden.

    The seed draws the documents (but for a .mat file), the split and the labels. PAM and UMI choose their words from
    the text of all documents, as published; they see no label.

    Raises FileNotFoundError where the path is missing and ValueError naming what does not fit.
    """
    arrays = _read_distributed(config) if config.is_distributed else _build(config, seed, _stamp(config.path))
    return to_splits(arrays, seed, config.label_rate, config.transform, config.unit_norm)


def fingerprint(config: NewsgroupConfig) -> str:
    """SHA-256 of the file, or of the names and sizes of a folder's files, to know whether the data changed."""
    if not config.path:
        return "fetch_20newsgroups"
    path = Path(config.path)
    if path.is_dir():
        files = sorted(
            (file.relative_to(path).as_posix(), file.stat().st_size) for file in path.rglob("*") if file.is_file()
        )
        return hashlib.sha256(repr(files).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# A study trains several methods on the same documents one after the other; `stamp` changes when the source does.
@lru_cache(maxsize=2)
def _build(config: NewsgroupConfig, seed: int, stamp: int) -> Arrays:
    subset = SUBSETS[config.groups]
    posts = _posts(config.path, subset.groups, stamp)
    documents, sample_ids = _draw_documents(posts, subset, config, np.random.default_rng([seed, 2]))
    of_a_group = [subset.documents, config.unlabeled]
    labels = np.concatenate([np.repeat([c, UNLABELED], of_a_group) for c in range(len(subset.groups))])
    # Drawn here too, with the generators of `to_splits`, because SMI may look at visible labels only.
    split = draw_splits(labels, np.array(sample_ids), np.random.default_rng([seed, 0]))
    shown = draw_visible(labels, split == "train", config.label_rate, np.random.default_rng([seed, 1]))
    seen = labels if config.smi == "all_labels" else np.where(shown, labels, UNLABELED)
    counts = {view: _count(documents[view], config.words) for view in VIEWS}
    chosen = {
        "pam": select_pam(counts["pam"], config.words, np.random.default_rng([seed, 3])),
        "smi": select_smi(counts["smi"], seen, config.words),
        "umi": select_umi(counts["umi"], config.words),
    }
    views = {view: counts[view][:, chosen[view]] for view in VIEWS}
    return Arrays(views, labels, subset.groups, sample_ids, split=split.tolist())


@lru_cache(maxsize=1)
def _posts(path: str, groups: tuple[str, ...], stamp: int) -> Posts:
    return read_posts(path, groups)


def _stamp(path: str) -> int:
    """When the file or folder was last written, in nanoseconds."""
    return Path(path).stat().st_mtime_ns if path and Path(path).exists() else 0


def _draw_documents(
    posts: Posts, subset: Subset, config: NewsgroupConfig, rng: np.random.Generator
) -> tuple[dict[str, list[list[str]]], list[str]]:
    """view -> the words of its N documents, group by group, those without a label after the others; and N ids, which
    name the documents behind the row. Asking for more unlabeled ones changes none of the others."""
    views_apart = 1 if config.pairing == "paired" else len(VIEWS)
    rows = subset.documents + config.unlabeled
    documents: dict[str, list[list[str]]] = {view: [] for view in VIEWS}
    sample_ids = []
    for group in subset.groups:
        names, needed = list(posts[group]), rows * views_apart
        if len(names) < needed:
            raise ValueError(f"{group} has {len(names)} posts that are its alone; {config.pairing} views need {needed}")
        first, more = np.split(rng.permutation(names)[:needed], [subset.documents * views_apart])
        drawn = np.concatenate([first.reshape(views_apart, -1), more.reshape(views_apart, -1)], axis=1)
        for view, row in zip(VIEWS, np.broadcast_to(drawn, (len(VIEWS), rows)), strict=True):
            documents[view] += [posts[group][name] for name in row]
        sample_ids += [f"{group}/{'+'.join(names)}" for names in drawn.T]
    return documents, sample_ids


def _count(documents: list[list[str]], words: int) -> sparse.csr_matrix:
    """(N, V) counts of the words that occur in MIN_DOCUMENTS documents or more, V >= words, in alphabetical order."""
    counts = CountVectorizer(analyzer=list, dtype=np.float64).fit_transform(documents)
    common = np.bincount(counts.indices, minlength=counts.shape[1]) >= MIN_DOCUMENTS
    if common.sum() < words:
        raise ValueError(
            f"words is {words}; only {common.sum()} occur in {MIN_DOCUMENTS} or more of the {len(documents)} documents"
        )
    return counts[:, common]


def _read_distributed(config: NewsgroupConfig) -> Arrays:
    """NGs.mat: `data`, a 1 x 3 cell of (words, documents) counts, and `truelabel`, the same 1 x N in each of 3 cells.

    Row i has the same class in all views, but is not the same document. The middle cell is SMI; which of the others is
    PAM is not documented. By difficulty, the first is.
    """
    path, classes = config.path, len(SUBSETS[config.groups].groups)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: nothing here; expected the distributed NGs.mat")
    try:
        file = loadmat(path)
        cells = [sparse.csr_matrix(values, dtype=np.float64).T.tocsr() for values in file["data"].ravel()]
        truth = [np.ravel(values) for values in file["truelabel"].ravel()]
    except (KeyError, ValueError, TypeError, NotImplementedError, OSError, MatReadError) as error:
        raise ValueError(f"{path}: expected `data` and `truelabel` laid out as in NGs.mat: {error}") from error
    if len(cells) != len(VIEWS) or any(cell.shape != (len(truth[0]), config.words) for cell in cells):
        shapes = [cell.shape[::-1] for cell in cells]
        raise ValueError(
            f"{path}: data has cells {shapes}; expected 3 of ({config.words} words, {len(truth[0])} documents)"
        )
    if any(not np.array_equal(labels, truth[0]) for labels in truth):
        raise ValueError(f"{path}: the cells of truelabel differ; row i must have one class in all views")
    names, labels = np.unique(truth[0], return_inverse=True)
    if len(names) != classes:
        raise ValueError(f"{path}: {len(names)} classes; groups {config.groups!r} has {classes}")
    sample_ids = [f"{row:04d}" for row in range(len(labels))]
    return Arrays(dict(zip(VIEWS, cells, strict=True)), labels, tuple(str(name) for name in names), sample_ids)
