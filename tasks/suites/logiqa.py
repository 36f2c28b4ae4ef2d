"""LogiQA's records and prompt: the functions that harness_logiqa.yaml names."""

from __future__ import annotations

from typing import Any

LETTERS = "abcd"


def parse(text: str) -> list[dict[str, Any]]:
    """The records of one of the authors' files: blank-line separated; the answer's letter, passage, question, options."""
    records = []
    for block in text.strip().split("\n\n"):
        label, context, question, *options = block.split("\n")
        records.append(
            {
                "label": label.strip(),
                "context": _spaced(context),
                "question": _spaced(question),
                "options": [_spaced(option[2:]) for option in options],
            }
        )
    return records


def _spaced(text: str) -> str:
    """With a space after every full stop, as lm-eval's data set has it."""
    return text.replace(".", ". ").strip()


def process_docs(dataset: Any) -> Any:
    """Records from whole files (column `text`); a data set that has records already is left alone."""
    import datasets

    if "text" not in dataset.column_names:
        return dataset
    return datasets.Dataset.from_list([record for row in dataset for record in parse(row["text"])])


def doc_to_text(doc: dict[str, Any]) -> str:
    """Passage, question, lettered options, `Answer:`."""
    options = "".join(f"{letter.upper()}. {option}\n" for letter, option in zip(LETTERS, doc["options"], strict=False))
    return f"Passage: {doc['context']}\nQuestion: {doc['question']}\nChoices:\n{options}Answer:"


def doc_to_target(doc: dict[str, Any]) -> int:
    """The right option's index."""
    return LETTERS.index(doc["label"].strip())
