"""Words are chosen by what they tell about the class or the document, or as medoids of a clustering."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import mutual_info_score

from adni_tcgm.datasets.newsgroup_views import (
    class_information,
    document_information,
    k_medoids,
    select_smi,
    select_umi,
)


def test_smi_prefers_words_of_one_class_over_words_of_all():
    labels = np.repeat([0, 1], 10)
    counts = np.ones((20, 3))
    counts[:10, 1] = 0
    counts[::2, 2] = 0
    assert select_smi(sparse.csr_matrix(counts), labels, 1).tolist() == [1]


def test_class_information_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    presence = rng.random((60, 7)) < rng.random(7)
    presence[:, 0] = True
    expected = [mutual_info_score(labels, presence[:, column]) for column in range(7)]
    assert class_information(sparse.csr_matrix(presence), labels) == pytest.approx(expected, abs=1e-12)


def test_document_information_adds_up_to_the_mutual_information_of_words_and_documents():
    counts = np.random.default_rng(0).poisson(0.7, (12, 9)).astype(float)
    expected = mutual_info_score(None, None, contingency=counts)
    assert document_information(sparse.csr_matrix(counts)).sum() == pytest.approx(expected)


def test_a_word_that_every_document_has_as_often_as_its_length_says_tells_nothing():
    counts = np.array([[2.0, 2, 0], [4, 0, 4]])
    information = document_information(sparse.csr_matrix(counts))
    assert information[0] == pytest.approx(0) and (information[1:] > 0.1).all()


def test_umi_chooses_the_words_that_tell_most_about_the_document():
    counts = sparse.csr_matrix(np.array([[2.0, 2, 0, 1], [4, 0, 4, 1]]))
    assert select_umi(counts, 2).tolist() == [1, 2]


def test_no_medoid_can_give_way_to_another_point_of_its_cluster():
    points = np.random.default_rng(1).poisson(1.0, (60, 5)).astype(float)
    medoids = k_medoids(sparse.csr_matrix(points), 6, np.random.default_rng(0))
    assert len(set(medoids.tolist())) == 6
    distances = ((points[:, None] - points[medoids][None]) ** 2).sum(2)
    cluster = distances.argmin(1)
    for position, medoid in enumerate(medoids):
        members = points[cluster == position]
        cost = ((members[:, None] - members[None]) ** 2).sum((1, 2))
        assert ((members - points[medoid]) ** 2).sum() == pytest.approx(cost.min())


def test_medoids_are_found_where_the_clusters_are_plain():
    centers = np.array([[0.0, 0], [50, 0], [0, 50]])
    points = np.concatenate([center + np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) for center in centers])
    for seed in range(5):
        assert k_medoids(sparse.csr_matrix(points), 3, np.random.default_rng(seed)).tolist() == [0, 5, 10]


def test_as_many_medoids_as_points_are_all_points_even_if_some_are_equal():
    points = sparse.csr_matrix(np.array([[1.0, 0], [1, 0], [1, 0], [0, 2]]))
    assert k_medoids(points, 4, np.random.default_rng(0)).tolist() == [0, 1, 2, 3]
