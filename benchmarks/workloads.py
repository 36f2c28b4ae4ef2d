"""What the benchmark scores: random LLaMA-structure models and (q, r) sets with realistic lengths. No timing.

Ids are uniform over the vocabulary: what is scored does not matter for speed, how long it is and what it shares do.

| set | pairs, full size | q, tokens | r, tokens | shared |
|---|---|---|---|---|
| MMLU 0-shot gold | 1,531 | lognormal, median 80, sigma 0.75, in [20, 1000] (mean 106) | lognormal, median 9, sigma 0.85, in [1, 100] (mean 13) | nothing |
| MMLU 0-shot choices | 1,531 x 4 | the same | the same, four per question | q by its 4 choices |
| MMLU 5-shot choices | 1,531 x 4 | the subject's preamble (12 tokens and five worked examples drawn like the questions: about 610), then as above | the same | the preamble by the subject's questions (57 subjects), q by its 4 choices |
| MATH | 1,500 | lognormal, median 60, sigma 0.6, in [10, 600] (mean 72) | lognormal, median 155, sigma 0.65, in [10, 1500] (mean 190) | nothing |
| code | 1,000 | lognormal, median 120, sigma 0.67, in [10, 1000] (mean 150) | lognormal, median 400, sigma 0.5, in [50, 1500] (mean 450) | nothing |

A scaled-down 5-shot set has whole subjects, 27 questions each as in MMLU's validation part, so that what is shared per
question stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import manual_seed
from transformers import LlamaConfig, LlamaForCausalLM

from harness.core.tokens import TokenPair

VOCABULARIES = {"32k": 32_000, "128k": 128_256}
QUESTIONS = 1_531
SUBJECTS = 57
Ids = npt.NDArray[np.int32]


def make_model(size: str) -> LlamaForCausalLM:
    """56M parameters with a vocabulary of 32,000 and a head of its own; 89M with 128,256 and a tied one. float32."""
    manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARIES[size],
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=8192,
        tie_word_embeddings=size == "128k",
    )
    return LlamaForCausalLM(config).eval()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One set. `group` is the question each pair belongs to: the peer's samples are of whole questions."""

    name: str
    pairs: tuple[TokenPair, ...]
    group: tuple[int, ...]
    full: int
    """Questions of the set at full size."""

    @property
    def n_questions(self) -> int:
        """Questions in this set, scaled down or not."""
        return len(set(self.group))


class _Draw:
    """Random lengths and ids of one set, the same on every machine."""

    def __init__(self, seed: int, vocabulary: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._vocabulary = vocabulary

    def ids(self, median: float, sigma: float, low: int, high: int) -> Ids:
        """Uniform ids, as many as a clipped lognormal says."""
        n = int(np.clip(self._rng.lognormal(np.log(median), sigma), low, high))
        return self._rng.integers(0, self._vocabulary, n).astype(np.int32)

    def question(self) -> Ids:
        return self.ids(80, 0.75, 20, 1000)

    def answer(self) -> Ids:
        return self.ids(9, 0.85, 1, 100)

    def preamble(self) -> Ids:
        examples = [part for _ in range(5) for part in (self.question(), self.answer())]
        return np.concatenate([self.ids(12, 0.0, 12, 12), *examples])


def _gold(draw: _Draw, n: int) -> list[tuple[int, Ids, Ids]]:
    return [(i, draw.question(), draw.answer()) for i in range(n)]


def _choices(draw: _Draw, n: int) -> list[tuple[int, Ids, Ids]]:
    return [(i, q, draw.answer()) for i in range(n) for q in [draw.question()] for _ in range(4)]


def _five_shot(draw: _Draw, n: int) -> list[tuple[int, Ids, Ids]]:
    subjects = max(1, round(n * SUBJECTS / QUESTIONS))
    each = n // subjects if n == QUESTIONS else round(QUESTIONS / SUBJECTS)
    found, index = [], 0
    for subject in range(subjects):
        preamble = draw.preamble()
        for _ in range(each + (1 if n == QUESTIONS and subject < n - each * subjects else 0)):
            q = np.concatenate([preamble, draw.question()])
            found += [(index, q, draw.answer()) for _ in range(4)]
            index += 1
    return found


def _math(draw: _Draw, n: int) -> list[tuple[int, Ids, Ids]]:
    return [(i, draw.ids(60, 0.6, 10, 600), draw.ids(155, 0.65, 10, 1500)) for i in range(n)]


def _code(draw: _Draw, n: int) -> list[tuple[int, Ids, Ids]]:
    return [(i, draw.ids(120, 0.67, 10, 1000), draw.ids(400, 0.5, 50, 1500)) for i in range(n)]


SETS: dict[str, tuple[int, Callable[[_Draw, int], list[tuple[int, Ids, Ids]]]]] = {
    "MMLU 0-shot gold": (QUESTIONS, _gold),
    "MMLU 0-shot choices": (QUESTIONS, _choices),
    "MMLU 5-shot choices": (QUESTIONS, _five_shot),
    "MATH": (1_500, _math),
    "code": (1_000, _code),
}
"""Name: questions at full size, and what draws them."""


def make_workload(name: str, size: str, *, questions: int | None) -> Workload:
    """A set for a model's vocabulary, of so many questions; None: full size."""
    full, draw = SETS[name]
    drawn = draw(_Draw(list(SETS).index(name), VOCABULARIES[size]), min(questions or full, full))
    pairs = tuple(
        TokenPair(id=str(i), ids=np.concatenate([q, r]), n_context=len(q), n_bytes=4 * len(r), cluster=str(question))
        for i, (question, q, r) in enumerate(drawn)
    )
    return Workload(name=name, pairs=pairs, group=tuple(question for question, _, _ in drawn), full=full)


def distinct_tokens(pairs: tuple[TokenPair, ...]) -> tuple[int, int]:
    """(tokens, predicting rows) that no scorer can avoid: each distinct beginning once.

    Counted on sorted sequences, without the engine: a sequence adds what it does not share with the one before it.
    """
    order = sorted(range(len(pairs)), key=lambda i: pairs[i].ids[:-1].astype(">u4").tobytes())
    rows: set[int] = set()
    n_tokens = 0
    before, place = np.zeros(0, np.int32), np.zeros(0, np.int64)
    for index in order:
        pair = pairs[index]
        ids = pair.ids[:-1]
        n = min(len(ids), len(before))
        different = np.flatnonzero(ids[:n] != before[:n])
        shared = int(different[0]) if len(different) else n
        place = np.concatenate([place[:shared], np.arange(n_tokens, n_tokens + len(ids) - shared)])
        n_tokens += len(ids) - shared
        before = ids
        rows.update(place[pair.n_context - 1 :].tolist())
    return n_tokens, len(rows)
