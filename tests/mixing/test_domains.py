"""Domain spaces: states, sizes, multipliers, classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from harness.core.errors import DataError
from harness.mixing.classify import KeywordClassifier, PipelineClassifier, sample_texts, shares_of
from harness.mixing.domains import Domains, read_domains


def test_states_are_by_size_or_alike_or_as_given() -> None:
    space = Domains(sources=["a", "b"], targets=["c", "d"])
    assert space.start.tolist() == [0.5, 0.5, 0, 0] and space.target.tolist() == [0, 0, 0.5, 0.5]
    sized = Domains(sources=["a", "b"], targets=["c", "d"], sizes={"a": 3, "b": 1, "c": 1})
    assert sized.start.tolist() == [0.75, 0.25, 0, 0]
    assert sized.target.tolist() == [0, 0, 0.5, 0.5], "where a size is missing, none count"
    given = Domains(sources=["a"], targets=["c"], start_shares={"a": 2, "c": 2}, target_shares={"c": 5})
    assert given.start.tolist() == [0.5, 0.5] and given.target.tolist() == [0, 1]


def test_classes_by_source_and_target_collapse_to_two() -> None:
    classes = [f"class {i}" for i in range(26)]
    space = Domains.of_classes(classes, source_sizes={"class 0": 2, "class 1": 1}, target_sizes={"class 3": 1})
    assert len(space.names) == 52 and space.start[:3].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    rho = np.full((7, 52), 1 / 52)
    assert space.collapse(rho) == pytest.approx(np.full((7, 2), 0.5))
    assert space.collapse(space.target).tolist() == [0, 1]
    with pytest.raises(DataError):
        space.collapse([0.5, 0.5])


def test_multipliers_are_of_sizes() -> None:
    space = Domains(sources=["a"], targets=["b", "c"], sizes={"a": 100, "b": 10, "c": 1})
    assert space.multiplied({"a": 1, "b": 10}).tolist() == [0.5, 0.5, 0]
    for multipliers, words in (({"d": 1}, "no domain"), ({"a": 0}, "sum to 0")):
        with pytest.raises(DataError, match=words):
            space.multiplied(multipliers)
    with pytest.raises(DataError, match="need the size of every domain; b"):
        Domains(sources=["a"], targets=["b"], sizes={"a": 1}).multiplied({"a": 1})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"sources": ["a"], "targets": ["a"]}', "a domain is there twice: 'a'; one that is both"),
        ('{"sources": ["a"], "targets": []}', "targets"),
        ('{"sources": ["a"], "targets": ["b"], "sizes": {"c": 1}}', "sizes names 'c', which is no domain"),
        ('{"sources": ["a"], "targets": ["b"], "sizes": {"a": -1}}', "must not be negative"),
        ('{"sources": ["a"], "targets": ["b"], "size": {"a": 1}}', "did you mean 'sizes'"),
        ('{"sources": [" "], "targets": ["b"]}', "a domain has no name"),
        ('{"sources": ["a"], "targets": ["b"], "sizes": {"a": NaN}}', "sizes.a"),
        ('{"sources": ["a", "c"], "targets": ["b"], "sizes": {"a": 1e308, "c": 1e308}}', "than a number holds"),
        ("{", "cannot read"),
    ],
)
def test_what_is_no_space_is_said(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "domains.json").write_text(content)
    with pytest.raises(DataError, match=words):
        read_domains(tmp_path / "domains.json")


def test_a_start_state_is_what_the_model_writes() -> None:
    classifier = KeywordClassifier({"code": ["def", "return"], "prose": ["the", "and"]})
    assert shares_of(["def f", "The end", "and the return", "return"], classifier).tolist() == [0.5, 0.5]
    texts = sample_texts(tiny.llama(), tiny.tokenizer(), number=10, length=8, batch=4)
    assert len(texts) == 10 and texts == sample_texts(tiny.llama(), tiny.tokenizer(), number=10, length=8, batch=4)
    assert shares_of(texts, classifier).sum() == pytest.approx(1.0)
    with pytest.raises(DataError):
        shares_of([], classifier)


def test_a_classifier_of_transformers_is_loaded_from_a_folder(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config: Any = BertConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label={0: "Science", 1: "Sports", 2: "News"}, label2id={"Science": 0, "Sports": 1, "News": 2},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    classifier = PipelineClassifier(str(tmp_path))
    assert classifier.labels == ["Science", "Sports", "News"]
    assert shares_of(["one text", "another"], classifier).shape == (3,)
    with pytest.raises(DataError, match="cannot load the classifier"):
        PipelineClassifier(str(tmp_path / "nothing"))


def test_sizes_and_multipliers_that_mean_nothing_are_refused() -> None:
    space = Domains(sources=["a"], targets=["b"], sizes={"a": 1.0, "b": 2.0})
    with pytest.raises(DataError, match="the multiplier of a is -1; none may be negative"):
        space.multiplied({"a": -1, "b": 10})
    with pytest.raises(DataError, match="'sport', which is none of the classes"):
        Domains.of_classes(["news"], source_sizes={"sport": 1.0}, target_sizes={})
    with pytest.raises(DataError, match=r"mixtures of shape \[\], for 2 domains"):
        space.collapse(0.5)
