"""Settings before a run: shown with their defaults, all their mistakes at once, and a schema for editors."""

from __future__ import annotations

import json
import re
from dataclasses import make_dataclass
from pathlib import Path

import pytest
import yaml

from adni_tcgm.methods.registry import METHODS
from pipelines.command_line import main
from pipelines.config import BUILT_IN, DATASETS, load_settings
from pipelines.schema import FILE, field_texts, schema
from pipelines.settings_file import find_mistakes, show

SHIPPED = sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def write(folder: Path, text: str) -> str:
    file = folder / "mine.yaml"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shown_of_a_configuration_reads_as_the_same_settings(name, tmp_path):
    shown = write(tmp_path, show(name))
    for pretraining in ("none", *load_settings(name, {}).pretrainings):
        first, again = (load_settings(source, {"pretraining": pretraining}) for source in (name, shown))
        assert (again.data, again.train, again.encoder()) == (first.data, first.train, first.encoder())
        assert again.chosen_pretraining() == first.chosen_pretraining()
        for method in METHODS:
            assert again.method(method) == first.method(method)
            assert again.train_for(method) == first.train_for(method)
    assert find_mistakes(shown) == [] and show(shown) == show(name)


def test_defaults_are_shown_and_what_is_set_on_top(capsys):
    assert main(["config", "show", "gaussian", "--set", "train.steps=7"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["train"]["steps"] == 7 and values["train"]["patience"] is None
    assert values["methods"]["vat"]["epsilon"] == 2.5


def test_every_mistake_of_a_file_is_a_sentence_of_its_own(tmp_path, capsys):
    file = write(
        tmp_path,
        """
dataset: adni
data: {path: p, featurs: regions, crop: hipocampi, label_rate: many}
train: {stpes: 7, schedule: joined}
net: slim
methods:
  tcgm: {gain_wight: 2, train: {lr_labeled: fast}}
  tgcm: {}
pretrainings:
  mine: {tasks: [targets, jigsaw]}
nett: mlp
""",
    )
    assert main(["config", "validate", file]) == 2
    said = capsys.readouterr().err
    for sentence in (
        "data: unknown key 'featurs'; did you mean 'features'?",
        "data: label_rate is 'many'; expected float",
        "train: unknown key 'stpes'; did you mean 'steps'?",
        "methods.tcgm: unknown key 'gain_wight'; did you mean 'gain_weight'?",
        "methods.tcgm.train: lr_labeled is 'fast'; expected float",
        "methods: name is 'tgcm'; choose one of",
        "pretrainings.mine: tasks is 'jigsaw'; choose one of targets, cross_modal",
        "unknown key 'nett'; did you mean 'net'?",
    ):
        assert f"{file}: {sentence}" in said, sentence
    assert len(said.splitlines()) == 8


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("methods: [tcgm]", "methods is ['tcgm']; expected keys and values"),
        ("methods: {tcgm: 3}", "methods.tcgm is 3; expected keys and values"),
        ("pretrainings: {mine: }", "pretrainings.mine is None; expected keys and values"),
        ("train: fast", "train is 'fast'; expected keys and values"),
    ],
)
def test_a_part_without_keys_and_values_is_named(text, sentence, tmp_path):
    file = write(tmp_path, f"data: {{path: p}}\n{text}\n")
    assert find_mistakes(file) == [sentence]
    with pytest.raises(ValueError, match=re.escape(f"mine.yaml: {sentence}")):
        load_settings(file, {})


def test_a_value_that_is_not_allowed_is_refused_with_the_nearest_that_is(tmp_path):
    file = write(tmp_path, "data: {path: p, crop: hipocampi}\n")
    assert find_mistakes(file) == [
        "data: crop is 'hipocampi'; choose one of hippocampi, paper64; did you mean 'hippocampi'?"
    ]


def test_a_file_without_a_mistake_says_so(tmp_path, capsys):
    file = write(tmp_path, "data: {path: p}\n")
    assert main(["config", "validate", file]) == 0
    assert capsys.readouterr().out == f"{file}: no mistake\n"


def test_what_was_entered_by_import_path_is_not_in_the_schema(monkeypatch):
    monkeypatch.setitem(METHODS, "own_code:Method", METHODS["ce"])
    monkeypatch.setitem(DATASETS, "own_code:Data", DATASETS["gaussian"])
    assert "own_code:" not in json.dumps(schema())


def test_the_shipped_schema_is_that_of_the_settings_as_they_are(capsys):
    assert json.loads(FILE.read_text(encoding="utf-8")) == schema()
    assert main(["config", "schema"]) == 0
    assert capsys.readouterr().out == FILE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def validator():
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_is_valid_by_the_schema_and_names_it(validator, name):
    text = (BUILT_IN / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=settings.schema.json\n")
    validator.validate(yaml.safe_load(text))
    validator.validate(yaml.safe_load(show(name)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": {"crop": "whole"}},
        {"train": {"stpes": 7}},
        {"train": {"steps": 1.5}},
        {"dataset": "gaussian", "data": {"crop": "paper64"}},
        {"methods": {"tgcm": {}}},
        {"pretrainings": {"mine": {"tasks": ["jigsaw"]}}},
        {"net": "huge"},
    ],
    ids=str,
)
def test_the_schema_refuses_what_the_settings_refuse(validator, wrong, tmp_path):
    assert not validator.is_valid(wrong)
    whole = wrong | {"data": {"path": "p"} | wrong.get("data", {})} if "dataset" not in wrong else wrong
    assert find_mistakes(write(tmp_path, yaml.safe_dump(whole)))


def test_a_method_of_ones_own_is_valid_by_the_schema(validator):
    validator.validate({"methods": {"my_module:MyMethod": {"anything": 1}}, "net": "my_module:MyNet"})


def test_the_schema_says_of_a_key_what_its_docstring_says():
    kind = make_dataclass("Kind", [("path", str), ("low", int), ("high", int)])
    kind.__doc__ = "What.\n\npath: the folder. low, high: ends of\n    the range."
    assert field_texts(kind) == {"path": "the folder.", "low": "ends of the range.", "high": "ends of the range."}
