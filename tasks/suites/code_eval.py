"""pass@k of generated programs, with the meaning of the metric `code_eval` that lm-eval would download. Called within lm-eval
by our YAML files of HumanEval and MBPP."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from importlib.util import find_spec
from math import comb
from pathlib import Path
from typing import Any

from harness.core.errors import SpecError
from harness.core.extras import install
from harness.tasks.suites.sandbox import run_program


def pass_at_k(references: Sequence[str], predictions: Sequence[Sequence[str]], k: Sequence[int]) -> dict[str, float]:
    """The mean over problems of the unbiased 1 - C(n - c, k) / C(n, k): n programs, c of them pass the reference's tests."""
    sums = dict.fromkeys(k, 0.0)
    for test, programs in zip(references, predictions, strict=True):
        # With an empty line between, lest a program that ends in a backslash takes the first line of its tests.
        passed = sum(run_program(f"{program}\n\n{test}").passed for program in programs)
        for size in k:
            sums[size] += chance_of_one(len(programs), passed, size)
    return {f"pass@{size}": total / len(references) for size, total in sums.items()}


def chance_of_one(n: int, passed: int, k: int) -> float:
    """The probability that k of n programs, drawn without replacement, hold at least one of those that passed."""
    return 1.0 if n - passed < k else 1.0 - comb(n - passed, k) / comb(n, k)


def pass_at_1(references: str | Sequence[str], predictions: Sequence[Any]) -> float:
    """pass@1; a single program may stand for a list of one, as in lm-eval's MBPP."""
    tests = [references] if isinstance(references, str) else references
    programs = [[entry] if isinstance(entry, str) else entry for entry in predictions]
    return pass_at_k(tests, programs, [1])["pass@1"]


def after_prompt(resps: Sequence[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """HumanEval's programs: the prompt, which is the beginning of a function, and what the model wrote after it."""
    return [[doc["prompt"] + answer for answer in answers] for answers, doc in zip(resps, docs, strict=True)]


def mbpp_examples() -> list[dict[str, Any]]:
    """The three worked examples of lm-eval's `mbpp`, read from its source: importing that file downloads a metric.

    Raises SpecError where they are not there.
    """
    spec = find_spec("lm_eval")
    where = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else Path()
    path = where / "tasks" / "mbpp" / "utils.py"
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "list_fewshot_samples")
        (returned,) = (n.value for n in function.body if isinstance(n, ast.Return) and n.value is not None)
        examples: list[dict[str, Any]] = ast.literal_eval(returned)
    except (OSError, ValueError, SyntaxError) as error:
        raise SpecError(
            f"MBPP's examples are not in {path} ({error}); harness_mbpp needs lm_eval 0.4.13, {install('lm-eval')}"
        ) from error
    return examples
