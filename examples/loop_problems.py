"""The two problems of `loop.py`. Names, order, which domain is junk and what a base lacks are drawn from the seed.

stationary  prose and code of Python's standard library, and junk (their tokens in random order). The base knows one of the two.
changing    three languages (Markov chains over words of their own), of which a base lacks one. Which one is drawn for every run
            and nobody says it: only feedback tells. What is not trained is forgotten, and each language's data run out and repeat.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

import harness.tasks
from harness.mixing.domains import Domains
from harness.mixing.trainer import Recipe, TokenTrainer
from harness.spec.spec import Spec, parse_spec
from harness.tasks.reward_env.stdlib_field import passages_of

Ids = npt.NDArray[Any]
LETTERS = "bdfgklmnprstvz"
VOWELS = "aeiou"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything; --quick takes less."""

    steps: int
    proxies: int
    base_updates: int
    iterations: int
    reward_pairs: int
    test_pairs: int


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is trained and scored, and what an agent may know of it: not `junk`, nor which base lacks what."""

    name: str
    folder: Path
    space: Domains
    recipe: Recipe
    spec: Spec
    test: Spec
    test_tasks: dict[str, Path]
    k: tuple[int, ...]
    concentration: float
    settings: dict[str, Any] = field(default_factory=dict)
    start: dict[str, float] | None = None
    junk: str | None = None
    kinds: dict[str, str] = field(default_factory=dict)
    """base folder -> what it lacks, for the table."""


def words(rng: np.random.Generator, n: int, syllables: int) -> list[str]:
    """Distinct pronounceable words."""
    found: dict[str, None] = {}
    while len(found) < n:
        found["".join(str(rng.choice(list(LETTERS))) + str(rng.choice(list(VOWELS))) for _ in range(syllables))] = None
    return list(found)


def small_llama(folder: Path, tokenizer: Any, *, width: int, heads: int, context: int) -> None:
    """A base with a configuration alone, and the tokenizer."""
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"], vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width + width // 2,
        num_hidden_layers=2, num_attention_heads=heads, max_position_embeddings=context, tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_base(folder: Path, recipe: Recipe, rho: Sequence[float]) -> None:
    """A base that knows the domains of `rho`."""
    trainer = TokenTrainer(recipe)
    trainer.reset(recipe.seed)
    trainer.step(np.asarray(rho, dtype=np.float64))
    trainer.model.save_pretrained(folder)
    trainer.tokenizer.save_pretrained(folder)


def fields(folder: Path, pairs: dict[str, list[tuple[str, str]]], *, reward: int) -> tuple[Spec, Spec, dict[str, Path]]:
    """Specs of the pairs that give rewards, and of those that give none; the latter as tasks of lm-eval too."""
    tasks = folder / "tasks"
    tasks.mkdir(parents=True)
    shutil.copy(Path(str(harness.tasks.__path__[0])) / "reward_env" / "_field_yaml", tasks)
    rewards, tests, files = [], [], {}
    for name, found in pairs.items():
        for part, some in (("reward", found[:reward]), ("test", found[reward:])):
            path = folder / f"{part}_{name}.jsonl"
            path.write_text("".join(json.dumps({"q": q, "r": r}) + "\n" for q, r in some))
        rewards.append({"name": name, "kind": "logprob", "field": f"reward_{name}.jsonl"})
        task, data = tasks / f"test_{name}.yaml", folder / f"test_{name}.jsonl"
        hub = {"path": "local", "split": "test", "q": "{{ q }}", "r": "{{ r }}"}
        task.write_text(
            f"include: _field_yaml\ntask: test_{name}\nmetadata: "
            + json.dumps({"version": 1.0, "data_files": str(data.resolve()), "hub": hub})
            + "\n"
        )
        tests.append({"name": name, "kind": "logprob", "field": f"tasks/test_{name}.yaml", "data_files": [data.name]})
        files[name] = task
    return parse_spec({"components": rewards}, folder=folder), parse_spec({"components": tests}, folder=folder), files


def stationary(folder: Path, sizes: Sizes, rng: np.random.Generator) -> Problem:
    """Real text and junk."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    kinds = [str(one) for one in rng.permutation(["prose", "code"])]
    source, target, junk = words(rng, 3, 3)
    passages = {name: list(passages_of(kind, "train")) for name, kind in zip((source, target), kinds, strict=True)}  # type: ignore[arg-type]
    held = {name: list(passages_of(kind, "held_out")) for name, kind in zip((source, target), kinds, strict=True)}  # type: ignore[arg-type]
    texts = {
        name: "\n\n".join(some[i] for i in rng.permutation(len(some)))[:900_000] for name, some in passages.items()
    }
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        [text[:300_000] for text in texts.values()],
        trainers.BpeTrainer(vocab_size=1024, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False),
    )  # fmt: skip
    tokenizer = _finished(core)
    ids = {
        name: np.array(core.encode(text, add_special_tokens=False).ids, dtype=np.uint16) for name, text in texts.items()
    }
    both = np.concatenate(list(ids.values()))
    ids[junk] = rng.permutation(both)[: len(ids[target])]
    targets = [str(one) for one in rng.permutation([target, junk])]
    space = Domains(sources=[source], targets=targets)
    for name in space.names:
        np.save(folder / "data" / f"{name}.npy", ids[name])
    tokens = {name: str(folder / "data" / f"{name}.npy") for name in space.names}
    small_llama(folder / "empty", tokenizer, width=64, heads=4, context=512)
    common: dict[str, Any] = {"tokens": tokens, "length": 96, "rows": 16, "seed": int(rng.integers(1000))}
    train_base(
        folder / "base", Recipe(bases=[str(folder / "empty")], updates=sizes.base_updates, **common), [1.0, 0.0, 0.0]
    )
    pairs = {}
    for name, some in held.items():
        usable = list(dict.fromkeys(text.strip()[:400] for text in some if len(text) > 200))
        pairs[name] = [_cut(usable[i]) for i in rng.permutation(len(usable))[: sizes.reward_pairs + sizes.test_pairs]]
    spec, test, tasks = fields(folder, pairs, reward=sizes.reward_pairs)
    recipe = Recipe(bases=[str(folder / "base")], updates=5, **common)
    return Problem(
        name="stationary", folder=folder, space=space, recipe=recipe, spec=spec, test=test, test_tasks=tasks, junk=junk,
        k=(1, 10_000, 15_000, 20_000), concentration=1.0, start=space.mixture(space.start),
    )  # fmt: skip


def changing(folder: Path, sizes: Sizes, rng: np.random.Generator) -> Problem:
    """Languages, of which a base lacks one."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    n, size, follows, length = 3, 64, 4, 48
    vocabulary = words(rng, n * size, 2)
    names = words(rng, n, 3)
    core = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(["<s>", "</s>", *vocabulary])}, unk_token="</s>")
    )
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = _finished(core)
    pairs, pool = {}, 800
    wanted = sizes.reward_pairs + sizes.test_pairs
    generous = {}
    for place, name in enumerate(names):
        chain = np.zeros((size, size))
        for row in chain:
            row[rng.choice(size, follows, replace=False)] = rng.dirichlet(np.ones(follows))
        texts = _walks(chain, pool + wanted + 3_000, length - 1, rng) + 2 + place * size
        windows = np.concatenate([np.zeros((len(texts), 1), np.int64), texts], axis=1).astype(np.uint16)
        np.save(folder / "data" / f"{name}.npy", windows[:pool].ravel())
        np.save(folder / "data" / f"{name}-base.npy", windows[pool + wanted :].ravel())
        generous[name] = str(folder / "data" / f"{name}-base.npy")
        spelled = [[vocabulary[i - 2] for i in row] for row in texts[pool : pool + wanted]]
        pairs[name] = [(" ".join(row[:8]), " " + " ".join(row[8:])) for row in spelled]
    share = dict.fromkeys(names, 1.0)
    space = Domains(sources=names[:-1], targets=names[-1:], start_shares=share, target_shares=share)
    small_llama(folder / "empty", tokenizer, width=48, heads=4, context=128)
    common: dict[str, Any] = {"length": length, "rows": 16, "seed": int(rng.integers(1000))}
    kinds = {}
    for place, name in enumerate(names):
        rho = np.full(n, 1 / (n - 1))
        rho[place] = 0.0
        recipe = Recipe(tokens=generous, bases=[str(folder / "empty")], updates=sizes.base_updates, rate=5e-3, **common)
        train_base(folder / f"base-{place}", recipe, rho.tolist())
        kinds[str(folder / f"base-{place}")] = name
    spec, test, tasks = fields(folder, pairs, reward=sizes.reward_pairs)
    tokens = {name: str(folder / "data" / f"{name}.npy") for name in names}
    return Problem(
        name="changing", folder=folder, space=space, recipe=Recipe(tokens=tokens, bases=list(kinds), updates=10, **common),
        spec=spec, test=test, test_tasks=tasks, k=(1, 1_000, 10_000, 20_000), concentration=0.5, kinds=kinds,
    )  # fmt: skip


PROBLEMS: dict[str, Callable[[Path, Sizes, np.random.Generator], Problem]] = {
    "stationary": stationary,
    "changing": changing,
}


def _walks(chain: Ids, n: int, length: int, rng: np.random.Generator) -> Ids:
    sums = chain.cumsum(1)
    state = rng.integers(0, len(chain), n)
    found = [state]
    for _ in range(length - 1):
        state = (sums[state] < rng.random(n)[:, None]).sum(1).clip(max=len(chain) - 1)
        found.append(state)
    return np.stack(found, axis=1)


def _finished(core: Tokenizer) -> PreTrainedTokenizerFast:
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", model_max_length=512)


def _cut(text: str) -> tuple[str, str]:
    """A third to read, the rest to be scored, cut at white space."""
    at = text.find(" ", len(text) // 3)
    return (text[:at], text[at:]) if at > 0 else (text[: len(text) // 3], text[len(text) // 3 :])
