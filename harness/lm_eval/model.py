"""lm-eval's `hf` model with its log-likelihoods computed by our engine: the class behind `--model harness`.

Loading, tokenising and generating are lm-eval's own. Knows lm-eval and the engine, no field, spec or vector.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.core.errors import CheckpointError, DataError, SpecError
from harness.core.extras import install
from harness.core.tokens import TokenPair
from harness.engines.models.load import choose_device, off_the_gpu
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.score import score
from harness.lm_eval.players import Order
from harness.lm_eval.simulation_args import SimulationArgs

try:
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.utils import has_bos_prefix
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
    from tqdm import tqdm
except ImportError as error:
    raise ImportError(f"HarnessLM needs lm-eval ({error}); {install('lm-eval')}") from error

# Below lm-eval's own logger, so that what it shows and hides holds for this model too.
log = logging.getLogger("lm_eval.models.harness")

Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""A request of lm-eval: its texts (None for a window of a rolling text), ids of the context, ids of the continuation."""

ELSEWHERE = "use --model hf"
NOT_HERE = {
    "tp_plan": "splits the model over devices",
    "mixed_precision_dtype": "computes in another dtype than the model's",
}
"""Arguments of `hf` that this model does not take, and why."""


class HarnessLM(HFLM):  # type: ignore[misc]
    """A causal LM for lm-eval: the results of `hf` with `logits_cache=False`, without padding or reading a prefix twice.

    Takes the arguments of `hf`, and `batch_tokens`, the tokens per forward pass. Without a device it takes the GPU if there
    is one. `batch_size` holds for generation only. log-softmax is in float32 or wider, `softmax_dtype` has no effect. Where hf fails
    an assertion because a merge swallows the continuation, or a context of white space has no tokens, this scores as
    `harness score` does.

    Tasks of simulations (request type `simulate`) use endpoints: `agent_llm`, `agent_api_base` and the other arguments of
    simulation_args.py. With an agent and without `pretrained` no checkpoint is loaded.
    """

    _is_loaded = True
    _encoded: Mapping[str, list[int]] = {}
    """Text -> its ids, for the length of a call."""

    def __init__(
        self, pretrained: Any = None, *, device: str | None = None, batch_tokens: int | None = None, **kwargs: Any
    ) -> None:
        self._simulation = SimulationArgs.taken_from(kwargs, pretrained=pretrained, adapter=kwargs.get("peft"))
        if pretrained is None:
            if self._simulation.serves_checkpoint:
                raise SpecError("--model harness needs a checkpoint (pretrained=DIR), or an agent (agent_llm=NAME)")
            unknown = sorted(kwargs.keys() - inspect.signature(HFLM.__init__).parameters.keys())
            if unknown:
                raise SpecError(
                    f"--model harness knows no argument {unknown[0]!r}; docs/tau2.md names those of simulations"
                )
            super(HFLM, self).__init__()  # lm-eval's base class only: there is nothing to load
            self._is_loaded = False
            return
        for name, what in NOT_HERE.items():
            if kwargs.get(name) is not None:
                raise SpecError(f"--model harness does not take {name}, which {what}; {ELSEWHERE}")
        if batch_tokens is not None and (not isinstance(batch_tokens, int) or batch_tokens < 1):
            raise SpecError(f"batch_tokens is {batch_tokens!r}; give the tokens per forward pass, a number above 0")
        try:
            super().__init__(pretrained, device=device or choose_device("auto").type, **kwargs)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"--model harness cannot load pretrained={pretrained}: {str(error).partition(chr(10))[0].rstrip('.')}; "
                "it has to be a model folder, or a hub id that can be reached"
            ) from error
        self.batch_tokens = batch_tokens
        if self.backend != "causal":
            raise SpecError(f"--model harness scores causal language models, and {pretrained} is not one; {ELSEWHERE}")
        tuned: Any = getattr(self.model, "active_peft_config", None)
        if getattr(tuned, "is_prompt_learning", False):
            raise SpecError(
                f"--model harness scores models and LoRA adapters, and {kwargs.get('peft') or pretrained} is prompt tuning "
                f"({getattr(tuned.peft_type, 'value', tuned.peft_type)}), which puts virtual tokens before each sequence; {ELSEWHERE}"
            )
        if any(parameter.device.type == "meta" for parameter in self.model.parameters()):
            raise SpecError(
                f"--model harness needs the whole model in memory, and weights of {pretrained} are left on disk (parallelize, "
                f"device_map); {ELSEWHERE}"
            )
        if len({parameter.device for parameter in self.model.parameters()}) > 1 or self._is_sharded():
            raise SpecError(
                f"--model harness needs the whole model on one device, and {pretrained} is spread; {ELSEWHERE}"
            )
        if str(kwargs.get("batch_size", 1)) != "1":
            log.info("batch_size holds for generation; log-likelihoods are packed by a budget of tokens (batch_tokens)")

    def _is_sharded(self) -> bool:
        accelerator = getattr(self, "accelerator", None)
        return accelerator is not None and str(accelerator.distributed_type).rpartition(".")[2] == "FSDP"

    def simulate(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The result of each request's simulations, in order, as JSON text.

        Requests carry their Order; this passes them the Players.
        """
        answers = [""] * len(requests)
        games: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            games.setdefault(request.args[1].game, []).append(index)
        starts_a_server = self._simulation.serves_checkpoint
        with (
            off_the_gpu(self.model) if starts_a_server else contextlib.nullcontext(),
            self._simulation.players() as players,
        ):
            for indices in games.values():
                orders: list[Order] = [requests[index].args[1] for index in indices]
                for index, answer in zip(indices, orders[0].play(orders, players), strict=True):
                    answers[index] = answer
        return answers

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval stores about the model with its results; empty where no checkpoint is loaded."""
        return super().get_model_info() if self._is_loaded else {}

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What `hf` generates."""
        self._need_checkpoint()
        answers: list[str] = super().generate_until(requests, disable_tqdm=disable_tqdm)
        return answers

    def _need_checkpoint(self) -> None:
        if not self._is_loaded:
            raise SpecError(
                "these tasks are scored on a checkpoint, and none is loaded; give pretrained=DIR beside agent_llm"
            )

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(nats, whether every token was the likeliest) of every request, in order. Each distinct text is encoded once.

        Raises DataError for a request without a token.
        """
        self._need_checkpoint()
        for index, request in enumerate(requests):
            if self.is_empty(request):
                raise DataError(f"request {index} {request.args}: there is nothing to score, neither text has a token")
        texts = [text for request in requests for text in (request.args[0].rstrip(), "".join(request.args))]
        self._encoded = self._encode_all(dict.fromkeys(texts))
        try:
            answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        finally:
            self._encoded = {}
        return answers

    def is_empty(self, request: Any) -> bool:
        """Whether a request has neither context nor continuation tokens."""
        context, continuation = request.args
        return not context and not self.tok_encode(continuation, add_special_tokens=False)

    def _encode_all(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """The result of `tok_encode` for each text, in one batch."""
        begin = self.tokenizer.decode(self.prefix_token_id)
        encoded: dict[str, list[int]] = {}
        for begun in (False, True):
            some = [text for text in texts if has_bos_prefix(text, begin) is begun]
            special = False if begun else self.add_bos_token
            options = {} if special is None else {"add_special_tokens": special}
            if some:
                encoded |= zip(some, self.tokenizer(some, verbose=False, **options)["input_ids"], strict=True)
        return encoded

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **kwargs: Any
    ) -> list[int]:
        """The ids of one text, as `hf` encodes it."""
        if add_special_tokens is None and not left_truncate_len and string in self._encoded:
            return self._encoded[string]
        ids: list[int] = super().tok_encode(string, add_special_tokens, left_truncate_len, **kwargs)
        return ids

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        context_ids, continuation_ids = super()._encode_pair(context, continuation)
        if not continuation_ids:
            spaces = context[len(context.rstrip()) :]
            continuation_ids = self.tok_encode(spaces + continuation, add_special_tokens=False)
        return context_ids or [self.prefix_token_id], continuation_ids

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """(nats, whether every token was the likeliest) of every request, in order. `override_bs` has no effect."""
        limit = self.max_length
        plan = PackPlan([token_pair(index, request, limit) for index, request in enumerate(requests)])
        with _Bar(total=len(requests), disable=disable_tqdm or self.rank != 0) as bar:
            scores = score(self.model, plan, batch_tokens=self.batch_tokens, progress=bar, greedy=True)
        answers = list(zip(scores.logprob.tolist(), scores.greedy.tolist(), strict=True))
        for (texts, _, _), answer in zip(requests, answers, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts: the windows of `hf`, all of them in one plan."""
        self._need_checkpoint()
        windows = [self._windows(request.args[0]) for request in requests]
        answers = iter(self._loglikelihood_tokens([w for some in windows for w in some], disable_tqdm=disable_tqdm))
        totals = [sum(next(answers)[0] for _ in some) for some in windows]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _windows(self, text: str) -> list[Request]:
        ids = self.tok_encode(text)
        rolling = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1)
        return [(None, *make_disjoint_window(window)) for window in rolling]


class _Bar:
    """A Progress shown as a progress bar like lm-eval's own."""

    def __init__(self, *, total: int, disable: bool) -> None:
        self._bar = tqdm(total=total, disable=disable, desc="Running loglikelihood requests")

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, *, items: int, tokens: int) -> None:
        self._bar.update(items)


def token_pair(index: int, request: Request, limit: int) -> TokenPair:
    """The last `limit` + 1 tokens of a request, as in `hf`: the last one is predicted, never read. Raises DataError."""
    texts, context, continuation = request
    if not continuation or len(continuation) > limit:
        shown = f" ({texts[1][:40]!r} after {texts[0][-40:]!r})" if texts else ""
        raise DataError(
            f"request {index}{shown}: the continuation has {len(continuation)} tokens; "
            f"between 1 and the model's context of {limit} can be scored"
        )
    excess = len(context) + len(continuation) - (limit + 1)
    if excess > 0:
        log.warning(
            f"Combined length of context ({len(context)}) and continuation ({len(continuation)}) "
            f"exceeds model's maximum length ({limit}). Truncating {excess} tokens from the left."
        )
        context = context[excess:]
    return TokenPair(
        id=str(index),
        ids=np.array(context + continuation, dtype=np.int32),
        n_context=len(context),
        n_bytes=0,
        cluster="",
        truncated=excess > 0,
    )
