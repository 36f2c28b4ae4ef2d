"""The three fields of the paper on small local files with the columns of the real data sets."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas
import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from harness.core.errors import DataError
from harness.tasks.reward_env.catalog import load_field
from harness.tasks.reward_env.field import PairField
from harness.tasks.reward_env.hub_field import HubDefinition, csv_as_text, expand_files, load_hub_field

CODE = "".join(f"def f{n}(x):\n    return x + {n}\n" for n in range(200))


def jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def load(name: str, *files: Path) -> PairField:
    field = load_field(name, data_files=files)
    assert isinstance(field, PairField)
    return field


def fault(name: str, *files: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(name, *files)
    message = str(caught.value)
    assert "\n" not in message
    return message


def simple(**changes: Any) -> HubDefinition:
    return HubDefinition.model_validate({"path": "a/b", "split": "test", "q": "{{ q }}", "r": "{{ r }}", **changes})


def test_mmlu_asks_the_question_and_scores_the_gold_answers_text(tmp_path: Path) -> None:
    rows = [
        {"question": "What is 2 + 2?", "subject": "arithmetic", "choices": ["3", "4", "5", "6"], "answer": 1},
        {"question": "Capital of\nItaly é?", "subject": "geography", "choices": ["Rome", "B", "C", "D"], "answer": 0},
    ]
    path = tmp_path / "validation.parquet"
    pandas.DataFrame(rows).to_parquet(path)
    field = load("mmlu_val", path)
    assert [(pair.q, pair.r) for pair in field.content] == [
        ("Question: What is 2 + 2?\nAnswer:", " 4"),
        ("Question: Capital of\nItaly é?\nAnswer:", " Rome"),
    ]
    assert [pair.id for pair in field.content] == ["0", "1"]
    assert field.source["dataset"] == "cais/mmlu"
    assert field.source["names"] == ["all"]
    assert field.source["split"] == "validation"
    assert (field.source["sampled"], field.source["rows"]) == (2, 2)
    assert field.source["q"] == "Question: {{ question }}\nAnswer:"


def math_files(folder: Path, n_each: int) -> list[Path]:
    return [
        jsonl(
            folder / f"{subject}.jsonl",
            [
                {
                    "problem": f"{subject} problem {n}: $x^{{{n}}}$?",
                    "level": "Level 3",
                    "type": subject,
                    "solution": f"So $\\boxed{{{n}}}$.",
                }
                for n in range(n_each)
            ],
        )
        for subject in ("algebra", "geometry", "prealgebra")
    ]


def test_math_is_read_from_several_files_in_their_order(tmp_path: Path) -> None:
    field = load("math_train_1500", *math_files(tmp_path, 3))
    assert len(field) == 9
    assert field.content[0].q == "Problem: algebra problem 0: $x^{0}$?\nSolution:"
    assert field.content[0].r == " So $\\boxed{0}$."
    assert [pair.q.split()[1] for pair in field.content] == ["algebra"] * 3 + ["geometry"] * 3 + ["prealgebra"] * 3


def test_math_samples_1500_rows_with_the_seed_it_records(tmp_path: Path) -> None:
    files = math_files(tmp_path, 700)
    field = load("math_train_1500", *files)
    assert (len(field), field.source["rows"], field.source["sampled"], field.source["seed"]) == (1500, 2100, 1500, 1234)
    expected = sorted(random.Random(1234).sample(range(2100), 1500))
    assert [int(pair.id) for pair in field.content] == expected
    again = load("math_train_1500", *files)
    assert (again.content, again.digest, again.source) == (field.content, field.digest, field.source)


def test_another_seed_is_another_sample_in_row_order(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"q": str(n), "r": "r"} for n in range(100)])
    one, other = (load_hub_field(simple(sample=20, seed=seed), name="x", data_files=[path]) for seed in (1, 2))
    assert one.digest != other.digest
    for field in (one, other):
        rows = [int(pair.id) for pair in field.content]
        assert rows == sorted(set(rows))
        assert [pair.q for pair in field.content] == [str(row) for row in rows]


def slimpajama(path: Path, texts: Sequence[str]) -> Path:
    rows = [{"text": text, "meta": {"redpajama_set_name": "RedPajamaGithub"}} for text in texts]
    plain = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.compress(plain) if path.suffix == ".zst" else gzip.compress(plain))
    return path


@pytest.mark.parametrize("suffix", ["zst", "gz"])
def test_github_cuts_a_file_after_512_characters_or_half(tmp_path: Path, suffix: str) -> None:
    texts = [CODE, "x = 1\ny = 2\n", "é" * 600]
    field = load("github_val_1000", slimpajama(tmp_path / f"chunk_0.jsonl.{suffix}", texts))
    long, short, middling = field.content
    assert (long.q, long.r) == (CODE[:512], CODE[512:2048])
    assert (short.q, short.r) == (texts[1][:6], texts[1][6:])
    assert (len(middling.q), len(middling.r)) == (300, 300)


def test_an_end_of_white_space_is_named_with_its_row(tmp_path: Path) -> None:
    path = slimpajama(tmp_path / "chunk_0.jsonl.zst", ["x = 1", "a" + " " * 9])
    assert fault("github_val_1000", path) == (
        "field 'github_val_1000' row 1: r is empty, so there is nothing to score; change its template"
    )


def test_local_files_are_identified_by_their_content(tmp_path: Path) -> None:
    row, other = {"q": "a", "r": "b", "extra": 1}, {"q": "a", "r": "b", "extra": 2}
    here, there = jsonl(tmp_path / "here.jsonl", [row]), jsonl(tmp_path / "else" / "there.jsonl", [row])
    one, same, changed = (
        load_hub_field(simple(revision="v1"), name="x", data_files=[path])
        for path in (here, there, jsonl(tmp_path / "changed.jsonl", [other]))
    )
    assert one.source["resolved_revision"].startswith("sha256:")
    assert one.source["resolved_revision"] == same.source["resolved_revision"]
    assert one.source["resolved_revision"] != changed.source["resolved_revision"]
    assert one.source["revision"] == "v1"


def test_a_local_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    """The data set library keeps a prepared copy; a stale one would score text that is no longer there."""
    path = jsonl(tmp_path / "x.jsonl", [{"q": "a", "r": "old"}])
    assert load_hub_field(simple(), name="x", data_files=[path]).content[0].r == "old"
    jsonl(path, [{"q": "a", "r": "new"}])
    assert load_hub_field(simple(), name="x", data_files=[path]).content[0].r == "new"


@pytest.mark.parametrize("folder", ["with space", "[1] of [2]", "a*b?", "é日本", "%20#!", "{x}"])
def test_odd_characters_in_a_path_are_only_characters(tmp_path: Path, folder: str) -> None:
    jsonl(tmp_path / "axb-" / "x.jsonl", [{"q": "wrong", "r": "file"}])
    path = jsonl(tmp_path / folder / "x [0].jsonl", [{"q": "a", "r": "b"}])
    assert expand_files([path.name], tmp_path / folder) == [path]
    assert expand_files(["*.jsonl"], tmp_path / folder) == [path]
    field = load_hub_field(simple(), name="x", data_files=[path])
    assert [(pair.q, pair.r) for pair in field.content] == [("a", "b")]


def test_patterns_match_in_a_fixed_order_and_one_without_a_match_is_named(tmp_path: Path) -> None:
    files = [jsonl(tmp_path / "data" / f"{name}.jsonl", []) for name in ("b", "a", "c")]
    assert expand_files(["data/*.jsonl"], tmp_path) == sorted(files)
    assert expand_files(["**/a.jsonl", "data/[bc].jsonl"], tmp_path) == [files[1], files[0], files[2]]
    assert expand_files([str(files[0])], tmp_path) == [files[0]]
    with pytest.raises(DataError, match=r"data_files '.*none\*.jsonl' matches no file; give the path of a local copy"):
        expand_files(["none*.jsonl"], tmp_path)


@pytest.mark.parametrize(
    ("row", "changes", "reason"),
    [
        ({"question": "a"}, {}, "its template does not fit the row ('q' is undefined); columns are ['question']"),
        ({"q": "a", "r": None}, {}, "a column it prints is null, which would be scored as the word None"),
        ({"q": "a", "r": ["x"]}, {"r": "{{ r[4] }}"}, "its template does not fit the row"),
        ({"q": "a", "r": "b"}, {"r": "{{ 1 // 0 }}"}, "its template does not fit the row"),
        ({"q": "a", "r": "b"}, {"r": "{{ r.__class__.mro() }}"}, "is unsafe"),
        ({"q": "a", "r": " "}, {}, "r is empty, so there is nothing to score"),
    ],
)
def test_a_row_the_template_does_not_fit_is_named(
    tmp_path: Path, row: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    path = jsonl(tmp_path / "x.jsonl", [row])
    with pytest.raises(DataError) as caught:
        load_hub_field(simple(**changes), name="mine", data_files=[path])
    message = str(caught.value)
    assert message.startswith("field 'mine' row 0: ")
    assert reason in message
    assert "\n" not in message


def test_a_template_that_is_not_jinja_is_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"q": "a", "r": "b"}])
    with pytest.raises(DataError, match="field 'x': its template of q or r is not valid Jinja"):
        load_hub_field(simple(q="{{ q"), name="x", data_files=[path])


def test_a_column_may_have_any_name(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"self": "a", "r": "b"}])
    field = load_hub_field(simple(q="{{ self }}x"), name="x", data_files=[path])
    assert field.content[0].r == "b"


def test_a_file_of_another_kind_or_content_is_named(tmp_path: Path) -> None:
    text = tmp_path / "x.txt"
    text.write_text("a")
    assert fault("mmlu_val", text).startswith(f"field 'mmlu_val': {text} is none of .json, .jsonl, ")
    broken = tmp_path / "x.jsonl"
    broken.write_text('{"question": \n')
    assert fault("mmlu_val", broken).startswith(f"field 'mmlu_val': {broken} line 1: not valid JSON (")
    missing = tmp_path / "none.jsonl"
    assert f"cannot read {missing} (FileNotFoundError: " in fault("mmlu_val", missing)
    empty = jsonl(tmp_path / "empty.jsonl", [])
    assert fault("mmlu_val", empty) == f"field 'mmlu_val': {empty} is empty"
    other = tmp_path / "other.parquet"
    other.write_bytes(b"PAR1 and no more")
    assert f"cannot read {other} (" in fault("mmlu_val", other)


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b'{"question": "x", "choices": ["a"], "answer": 0}\n{"question": "caf\xe9", "choices": ["a"], "answer": 0}\n'
    )
    assert fault("mmlu_val", path).startswith(f"field 'mmlu_val': {path} line 2: not UTF-8 (byte 0xe9 at position 18)")


CELLS = ("007", "0.50", "1e5", "NA", "None", "nan", "True", "12345678901234567890", "2020-01-01", " x ", 'say "a, b"')


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.csv.gz", "x.CSV", "x.csv.zst"])
def test_a_cell_of_a_table_is_its_text_and_no_number(tmp_path: Path, name: str) -> None:
    """`datasets` would make 0.5 of 0.50, 7 of 007 and nothing of NA."""
    text = io.StringIO()
    csv.writer(text, delimiter="\t" if "tsv" in name else ",").writerows(
        [("q", "r"), *((cell, cell) for cell in CELLS)]
    )
    pack = {"gz": gzip.compress, "zst": zstandard.compress}.get(name.rpartition(".")[2], bytes)
    path = tmp_path / name
    path.write_bytes(pack(b"\xef\xbb\xbf" + text.getvalue().encode()))
    field = load_hub_field(simple(q="{{ q }}", r="[{{ r }}]"), name="x", data_files=[path])
    assert [(pair.q, pair.r) for pair in field.content] == [(cell, f"[{cell}]") for cell in CELLS]


def test_an_empty_cell_is_empty_text_and_so_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('q,r\n,b\n""," "\n')
    field = load_hub_field(simple(r="{{ r }}."), name="x", data_files=[path])
    assert [(pair.q, pair.r) for pair in field.content] == [("", "b."), ("", " .")]
    with pytest.raises(DataError, match="row 1: r is empty"):
        load_hub_field(simple(), name="x", data_files=[path])


def test_a_text_that_looks_like_a_date_stays_text(tmp_path: Path) -> None:
    """`datasets` would score 2020-01-01 00:00:00 for it."""
    path = jsonl(tmp_path / "x.jsonl", [{"q": "when", "r": "2020-01-01"}, {"q": "and", "r": "2020-01-02T10:00:00Z"}])
    assert [p.r for p in load_hub_field(simple(), name="x", data_files=[path]).content] == [
        "2020-01-01",
        "2020-01-02T10:00:00Z",
    ]


def test_a_date_of_a_parquet_file_is_not_printed_as_text(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pandas.DataFrame({"q": ["when"], "r": [pandas.Timestamp("2020-01-01")]}).to_parquet(path)
    with pytest.raises(DataError, match=r"row 0: .*was read as a date, which is not the file's text; format it with"):
        load_hub_field(simple(), name="x", data_files=[path])
    field = load_hub_field(simple(r="{{ r.strftime('%Y') }}"), name="x", data_files=[path])
    assert field.content[0].r == "2020"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"b", "holds bytes, which is no text"),
        (float("nan"), "is nan, which is no number"),
        (pandas.Timedelta("1s"), "was read as a duration"),
    ],
)
def test_a_value_of_a_parquet_file_that_is_no_text_is_not_printed(tmp_path: Path, value: Any, words: str) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"q": ["when"], "r": pyarrow.array([value], from_pandas=False)}), path)
    with pytest.raises(DataError, match=f"row 0: .*{words}"):
        load_hub_field(simple(), name="x", data_files=[path])


def test_a_definition_may_name_a_folder_which_has_no_revision(tmp_path: Path) -> None:
    jsonl(tmp_path / "a copy" / "data" / "test.jsonl", [{"q": "a", "r": "b"}])
    field = load_hub_field(simple(path=str(tmp_path / "a copy")), name="x")
    assert [(pair.q, pair.r) for pair in field.content] == [("a", "b")]
    assert field.source["resolved_revision"] is None


def test_a_folder_of_tables_is_read_as_text_too(tmp_path: Path) -> None:
    for split, cell in (("train", "1.50"), ("test", "0.50")):
        (tmp_path / "copy").mkdir(exist_ok=True)
        (tmp_path / "copy" / f"{split}.csv").write_text(f"q,r\n007,{cell}\n2020-01-01,NA\n")
    field = load_hub_field(simple(path=str(tmp_path / "copy")), name="x")
    assert [(pair.q, pair.r) for pair in field.content] == [("007", "0.50"), ("2020-01-01", "NA")]
    both = load_hub_field(simple(path=str(tmp_path / "copy"), names=["default", "default"]), name="x")
    assert len(both) == 4


def test_tables_that_the_library_reads_are_text_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "of the hub"
    folder.mkdir()
    (folder / "train.csv").write_text("q,r,n\nprice,0.50,1\nname,NA,007\n")
    definition = HubDefinition(path=str(folder), split="train", q="{{ q }}", r="{{ r }}")
    builder = csv_as_text(datasets.load_dataset_builder(str(folder), None), definition, None)
    builder.download_and_prepare()
    rows = list(builder.as_dataset(split="train"))
    assert rows == [{"q": "price", "r": "0.50", "n": "1"}, {"q": "name", "r": "NA", "n": "007"}]


def test_the_data_set_offline_is_one_line_that_says_what_to_do() -> None:
    assert fault("mmlu_val").startswith("field 'mmlu_val': cannot load data set cais/mmlu (")
    assert fault("mmlu_val").endswith("connect to the hub once, or give local files of the same columns as data_files")
