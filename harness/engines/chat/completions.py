"""Text completions of many prompts from a checkpoint's server: with limited concurrency, retries, and a journal of completions.
Prompts are token ids, so the checkpoint's own tokenizer decides, and BOS is never doubled.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.core.answer import Failure
from harness.core.chat import ContextOverflow, EndpointError, TransientError
from harness.core.component import Progress, Subject
from harness.core.digest import digest_json
from harness.core.endpoint import Endpoint
from harness.core.errors import HarnessError
from harness.core.journal import Journal
from harness.engines.chat.off_loop import off_loop
from harness.engines.chat.retry import Backoff, retried
from harness.engines.chat.session import Session
from harness.engines.chat.wire import check_logprobs

FINISHED = ("stop", "length")
"""Values of finish_reason of a complete text. With any other the answer was aborted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Token ids, and the other keys of the request. `stop`: the task's own stop strings.

    `thinks`: None where the answer has no thoughts in it; `free` where it may have, `opened` where the prompt ends within one.
    """

    ids: tuple[int, ...]
    payload: Mapping[str, Any]
    stop: tuple[str, ...]
    truncated: bool
    thinks: Literal["opened", "free"] | None = None

    @property
    def key(self) -> str:
        """Digest of the request: equal keys are equal requests."""
        return digest_json([list(self.ids), dict(self.payload)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A text that ended by itself (`stop`) or at its limit (`length`)."""

    text: str
    finish_reason: str
    n_tokens: int = 0


def complete(
    subject: Subject,
    endpoint: Endpoint,
    prompts: Sequence[Prompt],
    *,
    journal: Path,
    timeout_s: float,
    progress: Progress,
    backoff: Backoff | None = None,
) -> list[Completion | Failure]:
    """One completion per prompt, in order; those in the journal are not requested again.

    A failed request is repeated after a pause, through `subject.endpoint()`, which restarts a dead server. Raises HarnessError where
    there is no server at all.
    """
    client = _Client(subject, endpoint, Journal(journal), timeout_s, progress, backoff or Backoff())
    return _run(client.all(prompts))


def _run(work: Coroutine[Any, Any, list[Completion | Failure]]) -> list[Completion | Failure]:
    """Run to the end, in this thread, or in another where this one has a running loop already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    found: list[list[Completion | Failure]] = []
    raised: list[BaseException] = []

    def live() -> None:
        try:
            found.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=live)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return found[0]


class _Client:
    def __init__(
        self,
        subject: Subject,
        endpoint: Endpoint,
        journal: Journal,
        timeout_s: float,
        progress: Progress,
        backoff: Backoff,
    ) -> None:
        self._subject = subject
        self._endpoint = endpoint
        self._journal = journal
        self._timeout_s = timeout_s
        self._progress = progress
        self._backoff = backoff
        self._session = Session(timeout_s=timeout_s)

    async def all(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """Every prompt's completion."""
        keys = [prompt.key for prompt in prompts]
        done: dict[str, Completion | Failure] = {
            str(line["key"]): Completion(
                text=line["text"], finish_reason=line["finish_reason"], n_tokens=line["n_tokens"]
            )
            for _, line in self._journal.read()
        }
        left = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in done}
        self._progress.advance(items=len(keys) - len(left), tokens=0)
        self._limiter = asyncio.Semaphore(max(1, self._endpoint.parallel))
        self._renewing, self._writing = asyncio.Lock(), asyncio.Lock()
        try:
            async with asyncio.TaskGroup() as group:
                running = {key: group.create_task(self._one(key, prompt)) for key, prompt in left.items()}
        except* HarnessError as errors:
            raise _first(errors) from None
        finally:
            await self._session.close()
        done |= {key: task.result() for key, task in running.items()}
        return [done[key] for key in keys]

    async def _one(self, key: str, prompt: Prompt) -> Completion | Failure:
        async with self._limiter:
            answer = await self._asked(prompt)
            if isinstance(answer, Completion):
                line = {
                    "key": key,
                    "text": answer.text,
                    "finish_reason": answer.finish_reason,
                    "n_tokens": answer.n_tokens,
                }
                async with self._writing:
                    await asyncio.to_thread(self._journal.append, json.dumps(line))
        tokens = len(prompt.ids) + (answer.n_tokens if isinstance(answer, Completion) else 0)
        self._progress.advance(items=1, tokens=tokens)
        return answer

    async def _asked(self, prompt: Prompt) -> Completion | Failure:
        endpoint = self._endpoint

        async def ask() -> Completion:
            nonlocal endpoint
            endpoint = self._endpoint
            return await self._post(endpoint, prompt)

        async def renew() -> None:
            async with self._renewing:
                if self._endpoint is endpoint:
                    self._endpoint = await off_loop(self._subject.endpoint)

        try:
            return await retried(ask, self._backoff, between=renew)
        except (EndpointError, ContextOverflow) as error:
            return Failure(cause=str(error))

    async def _post(self, endpoint: Endpoint, prompt: Prompt) -> Completion:
        """One attempt. Raises TransientError, EndpointError or ContextOverflow."""
        likely = {"logprobs": 0} if endpoint.logprobs else {}  # reveals a text computed from NaN
        asked = {"model": endpoint.model, "prompt": list(prompt.ids), **likely, **prompt.payload}
        return _parse(await self._session.post(f"{endpoint.api_base}/completions", asked, api_key=endpoint.api_key))


def _parse(body: Any) -> Completion:
    """The completion in an answer. Raises TransientError for anything else: cut off, an error, a stream."""
    try:
        choice = body["choices"][0]
        text, reason = choice["text"], choice["finish_reason"]
        check_logprobs(choice)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise TransientError(f"the endpoint answered without a completion: {str(body)[:100]!r}") from error
    if not isinstance(text, str) or reason not in FINISHED:
        raise TransientError(f"the completion was broken off (finish_reason {str(reason)[:100]!r})")
    usage = body.get("usage")
    n_tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return Completion(text=text, finish_reason=reason, n_tokens=n_tokens if isinstance(n_tokens, int) else 0)


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
