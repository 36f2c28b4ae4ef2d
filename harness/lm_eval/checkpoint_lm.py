"""Answers requests of lm-eval's tasks with an opened checkpoint: likelihoods by our engine in process, text from its server.

Model and server are opened only when a request needs them. Requests that were encoded and packed for one checkpoint are reused.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.answer import Answer, Failure, Likelihood
from harness.core.component import Engine, Progress, Subject
from harness.core.errors import DataError, EngineError, HarnessError, SpecError
from harness.core.tokens import TokenPair
from harness.engines.chat.completions import Completion, Prompt, complete
from harness.engines.models.load import dtype_name, first_non_finite
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.padded_logprob import undisturbed
from harness.engines.scoring.score import score
from harness.lm_eval.generation import answer_begins, cut, make_prompt, said_of
from harness.lm_eval.model import HarnessLM, Request, token_pair

NOT_FINITE = "log-likelihood not finite"
NOTHING = "there is nothing to score: context and continuation have no tokens"
KEPT = 2
"""Plans kept: a sweep nearly always has one tokenizer and one context length."""

VLLM_OPTIONS = {"skip_special_tokens": False, "spaces_between_special_tokens": False}
"""Options for vLLM besides OpenAI's: special tokens stay in the text, because vLLM cannot stop at `<|im_end|>` if it drops it."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Requests under one tokenizer and context length: those that can be scored, in order, and index -> why another cannot."""

    plan: PackPlan | None
    unfit: Mapping[int, str]


Plans = dict[tuple[str, int], Packed]
"""One per set of requests."""


class _Packer(HarnessLM):
    """Encodes as lm-eval's `hf` does, and stores the token pairs instead of scoring them."""

    _pairs: list[TokenPair] | None = None
    _unfit: dict[int, str]

    def pack(self, requests: Sequence[Any]) -> Packed:
        """The plan of `loglikelihood` requests."""
        self._unfit = {place: NOTHING for place, request in enumerate(requests) if self.is_empty(request)}
        self._places = [place for place in range(len(requests)) if place not in self._unfit]
        self._pairs = pairs = list[TokenPair]()
        try:
            self.loglikelihood([requests[place] for place in self._places], disable_tqdm=True)
        finally:
            self._pairs = None
        return Packed(PackPlan(pairs) if pairs else None, self._unfit)

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        if self._pairs is None:
            return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)
        for place, request in zip(self._places, requests, strict=True):
            try:
                self._pairs.append(token_pair(place, request, self.max_length))
            except DataError as error:
                self._unfit[place] = str(error)
        return [(0.0, False)] * len(requests)


class CheckpointLM:
    """Answers requests of lm-eval's tasks. `engines`: those used; `n_truncated`: prompts that were cut, `n_at_limit`: answers that
    ended at their limit of tokens.

    A request that cannot be answered gets a Failure. Raises HarnessError where none can be.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        plans: Plans,
        scratch: Path,
        progress: Progress,
        batch_tokens: int | None,
        seed: int,
        timeout_s: float,
    ) -> None:
        self._subject = subject
        self._plans = plans
        self._scratch = scratch
        self._progress = progress
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._timeout_s = timeout_s
        self._packer: _Packer | None = None
        self.engines: list[Engine] = []
        self.n_truncated = 0
        self.n_at_limit = 0

    def answer(self, kind: str, requests: Sequence[Any]) -> Sequence[Answer]:
        """One answer per request, in order. Raises EngineError where no log-likelihood at all is finite."""
        if kind == "generate_until":
            return self._generate(requests)
        model = self._subject.model()
        engine = Engine(name="torch", dtype=dtype_name(model), device=next(model.parameters()).device.type)
        if engine not in self.engines:
            self.engines.append(engine)
        answers = self._roll(model, requests) if kind == "loglikelihood_rolling" else self._likelihoods(model, requests)
        failures = [answer for answer in answers if isinstance(answer, Failure)]
        if len(failures) == len(answers) and any(failure.cause == NOT_FINITE for failure in failures):
            weight = first_non_finite(model)
            cause = f"; weight {weight} holds NaN or infinity, so the checkpoint is broken" if weight else ""
            raise EngineError(f"the log-likelihood of none of {len(answers)} requests is finite{cause}")
        return answers

    def _likelihoods(self, model: Any, requests: Sequence[Any]) -> list[Answer]:
        packed = self.plan(model, requests)
        answers: list[Answer] = [Failure(cause=packed.unfit.get(place, NOTHING)) for place in range(len(requests))]
        self._progress.advance(items=len(packed.unfit), tokens=0)
        plan = packed.plan
        if plan is None:
            return answers
        self.n_truncated += sum(pair.truncated for pair in plan.pairs)
        scores = score(model, plan, batch_tokens=self._batch_tokens, progress=self._progress, greedy=True)
        for nats, greedy, pair in zip(scores.logprob.tolist(), scores.greedy.tolist(), plan.pairs, strict=True):
            answers[int(pair.id)] = (
                Likelihood(nats=nats, greedy=greedy, n_tokens=pair.n_tokens)
                if math.isfinite(nats)
                else Failure(cause=NOT_FINITE)
            )
        return answers

    def plan(self, model: Any, requests: Sequence[Any]) -> Packed:
        """Requests encoded and packed: once per tokenizer and context length."""
        key = (self._subject.tokenizer_id(), _context_length(model, self._subject.tokenizer()))
        if key not in self._plans:
            while len(self._plans) >= KEPT:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = self._packing(model).pack(requests)
        return self._plans[key]

    def _roll(self, model: Any, requests: Sequence[Any]) -> list[Answer]:
        totals = self._packing(model).loglikelihood_rolling(requests, disable_tqdm=True)
        self._progress.advance(items=len(requests), tokens=0)
        return [t if math.isfinite(t) else Failure(cause=NOT_FINITE) for t in totals]

    def _packing(self, model: Any) -> _Packer:
        if self._packer is None:
            # lm-eval sets a tokenizer's padding token and a model's evaluation mode; neither must remain changed.
            with undisturbed(model, next(model.parameters()).device), _without_remarks():
                self._packer = _Packer(
                    model, tokenizer=copy.deepcopy(self._subject.tokenizer()), batch_tokens=self._batch_tokens
                )
        return self._packer

    def _generate(self, requests: Sequence[Any]) -> list[Answer]:
        try:
            endpoint = self._subject.endpoint()
        except SpecError as error:
            raise SpecError(f"a benchmark that generates text needs the checkpoint on a server: {error}") from error
        tokenizer = self._subject.tokenizer()
        own = VLLM_OPTIONS if endpoint.engine == "vllm" else {}
        prompts: dict[int, Prompt] = {}
        answers: list[Answer] = [""] * len(requests)
        repeats: dict[int, int] = {}
        begins = answer_begins(tokenizer)
        for place, request in enumerate(requests):
            repeat = repeats[id(request)] = repeats.get(id(request), -1) + 1
            text, options = request.args[:2]
            try:
                prompts[place] = make_prompt(
                    tokenizer,
                    text,
                    {**own, **options},
                    max_model_len=endpoint.max_model_len,
                    seed=self._seed + repeat,
                    thinks=begins is not None and text.endswith(begins),
                )
            except DataError as error:
                answers[place] = Failure(cause=str(error))
        self.n_truncated += sum(prompt.truncated for prompt in prompts.values())
        completions = complete(
            self._subject,
            endpoint,
            list(prompts.values()),
            journal=self._scratch / "generations.jsonl",
            timeout_s=self._timeout_s,
            progress=self._progress,
        )
        notes = [endpoint.note] if endpoint.note else []
        if self.n_truncated and endpoint.own_length is not None:
            notes.append(
                f"{self.n_truncated} prompt(s) were cut to fit {endpoint.max_model_len} tokens, a setting of the server's "
                f"(serve.max_model_len); the model's own context has {endpoint.own_length}"
            )
        self.engines.append(
            Engine(
                name=endpoint.engine,
                dtype=endpoint.dtype,
                device=endpoint.device,
                served=endpoint.how,
                note="; ".join(notes) or None,
            )
        )
        specials = tokenizer.all_special_tokens
        for (place, prompt), made in zip(prompts.items(), completions, strict=True):
            if isinstance(made, Completion):
                at_limit = made.finish_reason == "length"
                self.n_at_limit += at_limit
                opened = prompt.thinks == "opened"
                said = made.text if prompt.thinks is None else said_of(made.text, opened=opened, cut=at_limit)
                answers[place] = cut(said, prompt.stop, specials)
            else:
                answers[place] = made
        return answers


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Silences lm-eval's warning that it was given a model object instead of a name."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _context_length(model: Any, tokenizer: Any) -> int:
    """A model's context length in tokens, as lm-eval resolves it."""
    from lm_eval.models.utils import resolve_max_length

    return int(resolve_max_length(model.config, tokenizer, default=HarnessLM._DEFAULT_MAX_LENGTH))


def engine_of(engines: Sequence[Engine]) -> Engine:
    """One engine for the provenance: their names together, dtype and device of the first. Raises HarnessError without any."""
    if not engines:
        raise HarnessError("nothing was asked")
    names = "+".join(dict.fromkeys(engine.name for engine in engines))
    served = next((engine.served for engine in engines if engine.served), None)
    note = next((engine.note for engine in engines if engine.note), None)
    return Engine(name=names, dtype=engines[0].dtype, device=engines[0].device, served=served, note=note)
