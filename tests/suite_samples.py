"""Small local files with the columns that the benchmarks' data sets have on the hub, and the `data` that points to them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WORDS = [
    "quick",
    "brown",
    "fox",
    "lazy",
    "dog",
    "capital",
    "France",
    "Paris",
    "return",
    "print",
    "add",
    "range",
    "question",
    "answer",
    "lookup",
    "system",
    "user",
]
Rows = Sequence[Mapping[str, Any]]


def phrase(dice: random.Random, n: int) -> str:
    return " ".join(dice.choice(WORDS) for _ in range(n))


def piqa(n: int = 12) -> list[dict[str, Any]]:
    dice = random.Random(1)
    return [
        {"goal": phrase(dice, 6), "sol1": phrase(dice, 3), "sol2": phrase(dice, 5), "label": i % 2} for i in range(n)
    ]


def arc(n: int = 10) -> list[dict[str, Any]]:
    dice = random.Random(2)
    return [
        {
            "id": str(i),
            "question": phrase(dice, 7),
            "choices": {"text": [phrase(dice, k + 1) for k in range(4)], "label": list("ABCD")},
            "answerKey": "ABCD"[i % 4],
        }
        for i in range(n)
    ]


def winogrande(n: int = 9) -> list[dict[str, Any]]:
    dice = random.Random(3)
    return [
        {
            "sentence": f"{phrase(dice, 4)} _ {phrase(dice, 3)}.",
            "option1": dice.choice(WORDS),
            "option2": dice.choice(WORDS),
            "answer": str(1 + i % 2),
        }
        for i in range(n)
    ]


def hellaswag(n: int = 8) -> list[dict[str, Any]]:
    dice = random.Random(5)
    return [
        {
            "ind": i,
            "activity_label": phrase(dice, 2),
            "ctx_a": phrase(dice, 5),
            "ctx_b": phrase(dice, 2),
            "endings": [phrase(dice, k + 2) for k in range(4)],
            "label": str(i % 4),
        }
        for i in range(n)
    ]


def openbookqa(n: int = 7) -> list[dict[str, Any]]:
    return [
        {"id": str(i), "question_stem": row["question"], "choices": row["choices"], "answerKey": row["answerKey"]}
        for i, row in enumerate(arc(n))
    ]


def sciq(n: int = 6) -> list[dict[str, Any]]:
    dice = random.Random(6)
    keys = ("distractor1", "distractor2", "distractor3", "correct_answer")
    return [
        {"question": phrase(dice, 5), "support": phrase(dice, 9), **{key: phrase(dice, 2) for key in keys}}
        for _ in range(n)
    ]


def logiqa_text(n: int = 5) -> str:
    """A file as LogiQA's authors publish it."""
    dice = random.Random(7)
    blocks = []
    for i in range(n):
        options = [f"{letter}.{phrase(dice, 3)}.End" for letter in "ABCD"]
        blocks.append("\n".join(["abcd"[i % 4], f"{phrase(dice, 6)}.{phrase(dice, 3)}.", phrase(dice, 4), *options]))
    return "\n" + "\n\n".join(blocks) + "\n"


def mathqa(n: int = 6) -> list[dict[str, Any]]:
    dice = random.Random(8)
    return [
        {
            "Problem": phrase(dice, 6),
            "options": "a ) 38 , b ) 27.675 , c ) 30 , d ) data inadequate , e ) none of these",
            "correct": "abcde"[i % 5],
        }
        for i in range(n)
    ]


def mmlu(subject: str, split: str, n: int) -> list[dict[str, Any]]:
    dice = random.Random(f"{subject}/{split}")
    return [
        {
            "question": phrase(dice, 8),
            "subject": subject,
            "choices": [phrase(dice, 2) for _ in range(4)],
            "answer": dice.randrange(4),
        }
        for _ in range(n)
    ]


def gsm8k(n: int = 6) -> list[dict[str, Any]]:
    dice = random.Random(4)
    return [{"question": f"{phrase(dice, 6)} {i}?", "answer": f"{phrase(dice, 3)}\n#### {i * 7}"} for i in range(n)]


def humaneval() -> list[dict[str, Any]]:
    bodies = [("add", "a, b", "assert candidate(1, 2) == 3"), ("twice", "a", "assert candidate(4) == 8")]
    return [
        {
            "task_id": f"HumanEval/{i}",
            "prompt": f"def {name}({arguments}):\n",
            "canonical_solution": "    return 0\n",
            "test": f"def check(candidate):\n    {test}\n",
            "entry_point": name,
        }
        for i, (name, arguments, test) in enumerate(bodies)
    ]


def mbpp() -> list[dict[str, Any]]:
    return [
        {
            "task_id": 11,
            "text": "Add.",
            "code": "",
            "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "1"],
        },
        {
            "task_id": 12,
            "text": "Twice.",
            "code": "",
            "test_list": ["assert twice(2) == 4", "assert twice(0) == 0", "1"],
        },
    ]


def write(path: Path, rows: Rows) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def splits(folder: Path, rows: Rows, *names: str) -> dict[str, Any]:
    """The same rows as every named split, as `data` names them."""
    return {"files": {name: write(folder / f"{name}.jsonl", rows) for name in names}}


def all_data(folder: Path) -> dict[str, Any]:
    """`data` for every benchmark there are samples of, written below `folder`."""
    return {
        "piqa": splits(folder / "piqa", piqa(), "train", "validation"),
        "arc_challenge": splits(folder / "arc", arc(), "train", "validation", "test"),
        "winogrande": splits(folder / "winogrande", winogrande(), "train", "validation"),
        "hellaswag": splits(folder / "hellaswag", hellaswag(), "train", "validation"),
        "openbookqa": splits(folder / "openbookqa", openbookqa(), "train", "validation", "test"),
        "sciq": splits(folder / "sciq", sciq(), "train", "validation", "test"),
        "mathqa": splits(folder / "mathqa", mathqa(), "train", "validation", "test"),
        "hendrycks_math": splits(folder / "hendrycks", hendrycks(), "train", "test"),
        "minerva_math": splits(folder / "hendrycks", hendrycks(), "train", "test"),
        "gsm8k": splits(folder / "gsm8k", gsm8k(8), "train", "test"),
        "harness_humaneval": splits(folder / "humaneval", humaneval(), "test"),
        "harness_mbpp": splits(folder / "mbpp", mbpp(), "train", "test"),
        "harness_logiqa": logiqa_files(folder / "logiqa"),
    }


def logiqa_files(folder: Path) -> dict[str, Any]:
    """LogiQA's text files, one document each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Train", "Eval", "Test"):
        (folder / f"{name}.txt").write_text(logiqa_text(), encoding="utf-8")
    return {"files": {"train": f"{folder}/Train.txt", "validation": f"{folder}/Eval.txt", "test": f"{folder}/Test.txt"}}


def mmlu_files(folder: Path, subjects: Sequence[str]) -> dict[str, Any]:
    """MMLU in the shape of its repository: a folder per subject, chosen by {name}. Subjects differ in size."""
    for index, subject in enumerate(subjects):
        write(folder / subject / "dev.jsonl", mmlu(subject, "dev", 5))
        write(folder / subject / "test.jsonl", mmlu(subject, "test", 2 + index % 3))
    return {"files": {"dev": f"{folder}/{{name}}/dev.jsonl", "test": f"{folder}/{{name}}/test.jsonl"}}


def hendrycks(n: int = 3) -> list[dict[str, Any]]:
    return [
        {
            "problem": f"Compute ${i} + {i}$.",
            "level": "Level 1",
            "type": "Algebra",
            "solution": f"It is $\\boxed{{{2 * i}}}$.",
        }
        for i in range(n)
    ]
