"""Encoders that several runs would train alike are trained once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from adni_tcgm.encoder_store import EncoderStore, encoder_key
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.pretraining.loop import Place
from adni_tcgm.pretraining.pretext import Pretraining, blank_encoders, pretrain
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch
from adni_tcgm.tcgm.encoders import encode

MODALITIES = [Modality("mri", (4,)), Modality("pet", (3,))]
SETTINGS = (Pretraining(steps=3, components=2), MLPConfig(hidden=(3,)))


def people(labeled: int = 4) -> MultimodalBatch:
    generator = torch.Generator().manual_seed(0)
    inputs = {m.name: torch.randn(12, *m.shape, generator=generator) for m in MODALITIES}
    labels = torch.where(torch.arange(12) < labeled, torch.arange(12) % 2, UNLABELED)
    return MultimodalBatch([str(i) for i in range(12)], inputs, torch.ones(12, 2, dtype=torch.bool), labels)


def test_the_key_names_settings_people_and_values_and_no_label() -> None:
    train = people()
    key = encoder_key([*SETTINGS, 0], MODALITIES, train)
    assert key == encoder_key([*SETTINGS, 0], MODALITIES, people(labeled=9))
    present = train.present.clone()
    present[3, 1] = False
    values = train.inputs | {"pet": train.inputs["pet"] + 0}
    values["pet"][-1, -1] += 1e-6
    others = [
        encoder_key([*SETTINGS, 1], MODALITIES, train),
        encoder_key([replace(SETTINGS[0], steps=4), SETTINGS[1], 0], MODALITIES, train),
        encoder_key([SETTINGS[0], {"mri": SETTINGS[1], "pet": MLPConfig()}, 0], MODALITIES, train),
        encoder_key([*SETTINGS, 0], [MODALITIES[0], replace(MODALITIES[1], signs=(1.0, 1.0, 0.0))], train),
        encoder_key([*SETTINGS, 0], MODALITIES, replace(train, sample_ids=["x", *train.sample_ids[1:]])),
        encoder_key([*SETTINGS, 0], MODALITIES, replace(train, present=present)),
        encoder_key([*SETTINGS, 0], MODALITIES, train.with_inputs(values)),
        encoder_key([*SETTINGS, 0], MODALITIES, replace(train, targets={"mri": torch.zeros(12, 1)})),
    ]
    assert len({key, *others}) == 9


def test_a_network_by_somebody_s_own_function_has_no_key() -> None:
    assert encoder_key([SETTINGS[0], {"mri": lambda: None}], MODALITIES, people()) is None
    assert encoder_key([SETTINGS[0], lambda: None], MODALITIES, people()) is None


def test_what_is_read_says_what_was_trained_to_the_bit(tmp_path: Path) -> None:
    train = people()
    learn = partial(pretrain, *SETTINGS, MODALITIES, train, place=Place("cpu"))
    blank = partial(blank_encoders, *SETTINGS, MODALITIES, train, None, "cpu")
    first = EncoderStore(tmp_path).get("key", blank, learn)
    again = EncoderStore(tmp_path).get("key", blank, pytest.fail)
    assert again.made_by == first.made_by and again.widths == first.widths
    for name, values in encode(first, train).inputs.items():
        assert torch.equal(values, encode(again, train).inputs[name])


@pytest.mark.parametrize("damage", ["truncated", "another key", "empty"])
def test_what_cannot_be_read_is_trained_anew(tmp_path: Path, damage: str) -> None:
    train = people()
    trained: list[int] = []

    def learn():
        trained.append(1)
        return pretrain(*SETTINGS, MODALITIES, train, place=Place("cpu"))

    blank = partial(blank_encoders, *SETTINGS, MODALITIES, train, None, "cpu")
    EncoderStore(tmp_path).get("other" if damage == "another key" else "key", blank, learn)
    file = tmp_path / "key.safetensors"
    if damage == "another key":
        (tmp_path / "other.safetensors").rename(file)
    else:
        file.write_bytes(file.read_bytes()[:100] if damage == "truncated" else b"")
    EncoderStore(tmp_path).get("key", blank, learn)
    EncoderStore(tmp_path).get("key", blank, learn)
    assert len(trained) == 2
