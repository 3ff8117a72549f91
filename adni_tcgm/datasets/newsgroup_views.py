"""Three ways to choose the words that a view of a document counts: PAM, SMI and UMI."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from adni_tcgm.tcgm.batch import UNLABELED

MAX_ROUNDS = 50
# Rows of products held dense at a time: 1,000 words by 2,000 medoids are 16 MB.
CHUNK = 1000


def select_pam(counts: sparse.csr_matrix, words: int, rng: np.random.Generator) -> np.ndarray:
    """(words,) sorted columns: the medoids of a clustering of the words. Looks at no label.

    counts: (N, V). A word is its vector of counts over the documents. Medoids as in Kaufman and Rousseeuw's
    partitioning around medoids, but drawn and then improved by turns (assign, choose each cluster's medoid) instead of
    by swaps, which would take hours for 2,000 medoids. Words of NGs.mat are about as frequent (median 9 documents; 6
    here), which they are not under cosine distance or from uniform draws (3).

    >>> counts = sparse.csr_matrix([[5, 5, 0, 0], [0, 0, 5, 5]])
    >>> len(select_pam(counts, 2, np.random.default_rng(0)))
    2
    """
    return k_medoids(counts.T.tocsr(), words, rng)


def select_smi(counts: sparse.csr_matrix, labels: np.ndarray, words: int) -> np.ndarray:
    """(words,) sorted columns with most mutual information between the word's presence and the class.

    counts: (N, V). labels: (N,) class index, or UNLABELED for documents that are not to be looked at. Among words that
    tie, those in more documents of all come first, which no label decides.

    >>> counts = sparse.csr_matrix([[1, 0, 1], [1, 0, 1], [0, 1, 1], [0, 1, 1]])  # the last word is everywhere
    >>> select_smi(counts, np.array([0, 0, 1, 1]), words=2).tolist()
    [0, 1]
    """
    seen = labels != UNLABELED
    information = class_information(counts[seen] > 0, labels[seen])
    documents = np.bincount(counts.indices, minlength=counts.shape[1])
    # Rounded, because equal information computed from counts in another order differs in the last digits.
    return np.sort(np.lexsort((-documents, -information.round(12)))[:words])


def select_umi(counts: sparse.csr_matrix, words: int) -> np.ndarray:
    """(words,) sorted columns that contribute most to the mutual information of words and documents. No label.

    counts: (N, V). See `document_information`. How the published view was chosen is not documented: its words are
    rarer (17 non-zeros a document in NGs.mat, about 50 here) and say less.

    >>> select_umi(sparse.csr_matrix([[3, 0, 1], [0, 3, 1]]), words=2).tolist()
    [0, 1]
    """
    return np.sort(np.argsort(-document_information(counts), kind="stable")[:words])


def class_information(presence: sparse.csr_matrix, labels: np.ndarray) -> np.ndarray:
    """(V,) mutual information in nats of presence (N, V) bool and class (N,).

    >>> presence = sparse.csr_matrix(np.array([[True, True], [False, True]]))
    >>> class_information(presence, np.array([0, 1])).round(3).tolist()  # log 2, and nothing
    [0.693, 0.0]
    """
    _, index = np.unique(labels, return_inverse=True)
    size = len(labels)
    classes = sparse.csr_matrix((np.ones(size), (index, np.arange(size))))
    with_word = (classes @ presence.astype(float)).toarray() / size
    prior = np.bincount(index)[:, None] / size
    frequency = with_word.sum(0)
    return _kl_terms(with_word, prior * frequency) + _kl_terms(prior - with_word, prior * (1 - frequency))


def document_information(counts: sparse.csr_matrix) -> np.ndarray:
    """(V,) p(w) sum_d p(d|w) log(p(d|w) / p(d)) in nats; its sum is I(word; document).

    counts: (N, V). Slonim and Tishby, "Document clustering using word clusters via the information bottleneck method",
    SIGIR 2000, choose the 2,000 words of their newsgroup subsets by it.

    >>> document_information(sparse.csr_matrix([[1, 1], [0, 1]])).round(3).argmax().item()
    0
    """
    joint = sparse.coo_matrix(counts / counts.sum())
    document, word = np.asarray(joint.sum(1)).ravel(), np.asarray(joint.sum(0)).ravel()
    terms = joint.data * np.log(joint.data / (document[joint.row] * word[joint.col]))
    return np.bincount(joint.col, weights=terms, minlength=counts.shape[1])


def k_medoids(points: sparse.csr_matrix, medoids: int, rng: np.random.Generator) -> np.ndarray:
    """(medoids,) sorted rows of `points` (n, D) that are medoids under squared Euclidean distance; n >= medoids.

    The distances of a point to all of a cluster sum to size |x|^2 - 2 x.sum + const, so that the best medoid of a
    cluster is found exactly without pairwise distances. The total distance never rises from one round to the next.

    >>> points = sparse.csr_matrix([[0.0], [0.1], [9.0], [9.1]])
    >>> len(k_medoids(points, 2, np.random.default_rng(0)))
    2
    """
    squares = _row_sums(points.multiply(points))
    chosen = draw_medoids(points, medoids, rng)
    for _ in range(MAX_ROUNDS):
        cluster = _nearest(points, squares, chosen)
        members = sparse.csr_matrix((np.ones(len(cluster)), (cluster, np.arange(len(cluster)))))
        distance = np.bincount(cluster)[cluster] * squares - 2 * _row_sums(points.multiply((members @ points)[cluster]))
        # Within each cluster the best first; of equals the present medoid, so that rounds come to an end.
        order = np.lexsort((~np.isin(np.arange(len(cluster)), chosen), distance, cluster))
        best = np.sort(order[np.unique(cluster[order], return_index=True)[1]])
        if np.array_equal(best, chosen):
            break
        chosen = best
    return chosen


def draw_medoids(points: sparse.csr_matrix, medoids: int, rng: np.random.Generator) -> np.ndarray:
    """(medoids,) sorted different rows, each drawn by its squared distance to the nearest one before (k-means++).

    Once every point left equals one that is drawn, the rest is drawn uniformly.

    >>> draw_medoids(sparse.csr_matrix([[0.0], [9.0]]), 2, np.random.default_rng(0)).tolist()
    [0, 1]
    """
    squares = _row_sums(points.multiply(points))
    distance, left = squares.copy(), np.ones(len(squares), dtype=bool)
    chosen: list[int] = []
    for _ in range(medoids):
        weight = np.where(left, np.maximum(distance, 0), 0)
        weight = weight if weight.sum() > 0 else left.astype(float)
        drawn = int(rng.choice(len(weight), p=weight / weight.sum()))
        chosen.append(drawn)
        left[drawn] = False
        distance = np.minimum(distance, squares + squares[drawn] - 2 * (points @ points[drawn].toarray()[0]))
    return np.sort(chosen)


def _nearest(points: sparse.csr_matrix, squares: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(n,) position in `chosen` of the nearest medoid; a medoid is always nearest to itself."""
    medoids = points[chosen].T.tocsc()
    starts = range(0, points.shape[0], CHUNK)
    parts = [(squares[chosen] - 2 * (points[row : row + CHUNK] @ medoids).toarray()).argmin(1) for row in starts]
    cluster = np.concatenate(parts)
    cluster[chosen] = np.arange(len(chosen))
    return cluster


def _row_sums(values: sparse.csr_matrix) -> np.ndarray:
    return np.asarray(values.sum(1)).ravel()


def _kl_terms(joint: np.ndarray, product: np.ndarray) -> np.ndarray:
    """(V,) sums over classes of p log(p / q), where 0 log 0 = 0."""
    there = joint > 1e-12
    ratio = np.divide(joint, product, out=np.ones_like(joint), where=there)
    return np.where(there, joint * np.log(ratio), 0).sum(0)
