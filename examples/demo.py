"""The whole environment at laptop scale: train proxies along three mixing trajectories, score them, show the reward.

Two domains of real text that every Python has: the standard library's prose (source) and its code (target). A small
LLaMA-structure proxy is trained on prose, then along three trajectories of mixtures sampled as in Algorithm 1 of
arXiv 2507.15640; every step is saved as a Hugging Face checkpoint. Then `harness` does what it is for.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: its threads sleep while they wait

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from harness import Feed, read_feed
from harness.cli import run
from harness.feed.plot import plot_feed
from harness.spec.prepared import read_reference
from harness.tasks.reward_env.stdlib_field import Domain, passages_of

DOMAINS: tuple[Domain, Domain] = ("prose", "code")
START = np.array([0.95, 0.05])
"""rho_0: what the base model was trained on. The paper's 0 for target domains would make the KL infinite."""
TARGET = np.array([0.05, 0.95])
"""rho_target: all target data, likewise kept off the boundary."""
CONTEXT = 256
VOCABULARY = 2048
CHARACTERS = 1_500_000
"""Text read per domain."""
Mixture = npt.NDArray[np.float64]


def kl(p: Mixture, q: Mixture) -> Any:
    """KL(p || q) over the last axis, nats."""
    return np.sum(p * np.log(p / q), axis=-1)


def sample_trajectory(rng: np.random.Generator, earlier: list[list[Mixture]], *, steps: int, k: int) -> list[Mixture]:
    """One mixing trajectory, Algorithm 1: of 20,000 random mixtures, one of the `k` with the lowest inductive score.

    alpha KL(rho || rho') + beta sigmoid(d / 5) KL(rho_target || rho') - gamma mean_tau KL(tau[d] || rho'), with
    alpha = 1, beta = 0.3, gamma = 0.6.
    """
    rho, trajectory = START, [START]
    for d in range(1, steps + 1):
        candidates = rng.dirichlet([1.0, 1.0], size=20_000).clip(1e-3)
        candidates /= candidates.sum(axis=1, keepdims=True)
        inductive = kl(rho, candidates) + 0.3 / (1 + math.exp(-d / 5)) * kl(TARGET, candidates)
        if earlier:
            inductive -= 0.6 * np.mean([kl(tau[d], candidates) for tau in earlier], axis=0)
        rho = candidates[rng.choice(np.argsort(inductive)[:k])]
        trajectory.append(rho)
    return trajectory


def read_text(domain: Domain) -> str:
    """The beginning of the domain's training part."""
    passages, length = [], 0
    for passage in passages_of(domain, "train"):
        passages.append(passage)
        length += len(passage) + 2
        if length >= CHARACTERS:
            break
    return "\n\n".join(passages)


def train_tokenizer(texts: dict[str, str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE over both domains, BOS in front."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts.values(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", model_max_length=CONTEXT * 2
    )


def batches(rng: np.random.Generator, ids: dict[str, Any], rho: Mixture, *, rows: int) -> Iterator[torch.Tensor]:
    """Batches of `rows` windows; each window comes from a domain drawn from `rho`."""
    while True:
        windows = []
        for domain in rng.choice(DOMAINS, size=rows, p=rho):
            start = rng.integers(len(ids[domain]) - CONTEXT)
            windows.append(ids[domain][start : start + CONTEXT])
        yield torch.from_numpy(np.stack(windows)).long()


def train(model: Any, optimizer: Any, data: Iterator[torch.Tensor], *, updates: int) -> float:
    """Train for some updates; the last loss, nats per token."""
    model.train()
    loss = torch.tensor(math.nan)
    for _, batch in zip(range(updates), data, strict=False):
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return float(loss.detach())


def save(model: Any, tokenizer: Any, folder: Path, rho: Mixture, tokens_seen: int) -> None:
    """A checkpoint, with the mixture it was trained on beside the weights."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    mixture = {"domains": list(DOMAINS), "weights": [round(float(w), 6) for w in rho], "tokens_seen": tokens_seen}
    (folder / "mixture.json").write_text(json.dumps(mixture), encoding="utf-8")


def harness(*arguments: str | Path) -> None:
    """Run the command line, as a user would."""
    print(f"\n$ harness {' '.join(map(str, arguments))}", flush=True)
    code = run([str(argument) for argument in arguments])
    if code:
        sys.exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/demo"))
    parser.add_argument("--steps", type=int, default=7, help="re-weighting steps per trajectory")
    parser.add_argument("--updates", type=int, default=12, help="optimizer updates per step")
    parser.add_argument("--warmup", type=int, default=120, help="updates of the base model before step 0")
    parser.add_argument("--rows", type=int, default=8, help="windows of 256 tokens per update")
    options = parser.parse_args()
    out: Path = options.out
    checkpoints = out / "checkpoints"
    shutil.rmtree(out, ignore_errors=True)
    logging.disable_progress_bar()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)

    clock = time.perf_counter()
    texts = {domain: read_text(domain) for domain in DOMAINS}
    tokenizer = train_tokenizer(texts)
    ids = {domain: np.array(tokenizer(text, verbose=False)["input_ids"]) for domain, text in texts.items()}
    print(f"text: {', '.join(f'{d} {len(ids[d]):,} tokens' for d in DOMAINS)} ({time.perf_counter() - clock:.0f} s)")

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=432,
        num_hidden_layers=4,
        num_attention_heads=5,  # of 32 numbers each, a size that vLLM serves on a CPU too
        max_position_embeddings=CONTEXT * 2,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    base = LlamaForCausalLM(config)
    clock = time.perf_counter()
    loss = train(
        base,
        torch.optim.AdamW(base.parameters(), lr=3e-3),
        batches(rng, ids, START, rows=options.rows),
        updates=options.warmup,
    )
    size = sum(p.numel() for p in base.parameters())
    print(f"base: {size / 1e6:.1f}M parameters, loss {loss:.2f} ({time.perf_counter() - clock:.0f} s)")

    trajectories: list[list[Mixture]] = []
    for number, k in enumerate((1, 1_000, 10_000)):
        clock = time.perf_counter()
        trajectory = sample_trajectory(rng, trajectories, steps=options.steps, k=k)
        trajectories.append(trajectory)
        model = LlamaForCausalLM(config)
        model.load_state_dict(base.state_dict())
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        folder = checkpoints / f"mix-{number}"
        seen = options.warmup * options.rows * CONTEXT
        save(model, tokenizer, folder / "checkpoint-0", START, seen)
        for step, rho in enumerate(trajectory[1:], start=1):
            train(model, optimizer, batches(rng, ids, rho, rows=options.rows), updates=options.updates)
            seen += options.updates * options.rows * CONTEXT
            save(model, tokenizer, folder / f"checkpoint-{step}", rho, seen)
        shares = " ".join(f"{rho[1]:.2f}" for rho in trajectory)
        print(f"mix-{number}: share of code per step {shares} ({time.perf_counter() - clock:.0f} s)", flush=True)

    harness("score", checkpoints, "--out", out)
    harness("fit-reference", out, "-o", out / "reference.json")
    harness("export", out, "--format", "olmix", "-o", out / "olmix")
    feed = read_feed(out)
    plot_feed(feed, out / "reward.svg")
    harness("report", out)
    print(f"\n{compare(feed)}")
    print(f"learner's array [rho ; standardised]: shape {feed.matrix(read_reference(out / 'reference.json')).shape}")
    print(f"feed: {out / 'rewards.jsonl'}, plot: {out / 'reward.svg'}, all of it to read: {out / 'report.html'}")


def compare(feed: Feed) -> str:
    """Whether more code in the mixture raised the code score, between trajectories after equally many tokens."""
    agree = total = 0
    exposure: list[float] = []
    scores: list[float] = []
    for step in sorted({vector.step for vector in feed if vector.step}):
        at_step = []
        for name in feed.trajectories:
            vectors = [v for v in feed.trajectory(name) if v.step is not None and 0 < v.step <= step and v.mixture]
            share = sum(v.mixture.normalized()["code"] for v in vectors if v.mixture) / step
            score = vectors[-1].components[0].raw
            assert score is not None
            at_step.append((share, score))
        for first, second in itertools.combinations(at_step, 2):
            total += 1
            agree += (first[0] > second[0]) == (first[1] > second[1])
        exposure += [share - sum(s for s, _ in at_step) / len(at_step) for share, _ in at_step]
        scores += [score - sum(s for _, s in at_step) / len(at_step) for _, score in at_step]
    rank = spearmanr(exposure, scores).statistic
    return (
        f"after equally many tokens, the trajectory with more code in its mixture scores higher on code in {agree} of {total} "
        f"comparisons (Spearman {rank:+.2f} between share of code and code score, step means removed)"
    )


if __name__ == "__main__":
    main()
