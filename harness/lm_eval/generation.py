"""A generation request of lm-eval as a prompt for a server, and a server's text as the answer that is scored. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jinja2

from harness.core.errors import CheckpointError, DataError, SpecError
from harness.core.template_trial import endless
from harness.core.thoughts import apart, opens_thought, shows_thoughts

if TYPE_CHECKING:
    from harness.engines.chat.completions import Prompt

MAX_NEW_TOKENS = 256
"""lm-eval's limit of new tokens where a task sets none."""
TOKEN_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Options by which a task may set its limit; the first one that is set counts, as in lm-eval."""


def answer_begins(tokenizer: Any) -> str | None:
    """The text that a chat template with thoughts puts before an answer; None for a template without thoughts."""
    template = getattr(tokenizer, "chat_template", None)
    if not template or not shows_thoughts(str(template)):
        return None
    turn = [{"role": "user", "content": "Hello."}]
    try:
        before = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=False)
        whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    except Exception:  # noqa: BLE001 - a template may raise anything; rendering a prompt reports that
        return None
    begins: str = whole.removeprefix(before)
    return begins if begins and begins != whole else None


def said_of(text: str, *, opened: bool, cut: bool) -> str:
    """An answer without what was thought; nothing where the thought that the prompt opened never ends. `cut`: at its longest."""
    return apart(text, opened=opened, cut=cut).said or ""


def make_prompt(
    tokenizer: Any,
    text: str,
    options: Mapping[str, Any],
    *,
    max_model_len: int | None,
    seed: int,
    thinks: bool = False,
) -> Prompt:
    """A generation request of lm-eval as its `local-completions` sends it, in token ids, cut from the left to leave room.

    `thinks`: the answer may begin with a thought, within which the task's stop strings must not apply: the server stops at EOS
    alone, and the text is cut afterwards.

    Raises DataError where the answer alone would fill the context.
    """
    from harness.engines.chat.completions import Prompt

    rest = dict(options)
    until = rest.pop("until", None) or []
    stop = [until] if isinstance(until, str) else list(until)
    rest.pop("do_sample", None)
    limits = [rest.pop(name, None) for name in TOKEN_LIMITS]
    most = int(next((limit for limit in limits if limit is not None), MAX_NEW_TOKENS))
    temperature = float(rest.pop("temperature", None) or 0.0)
    if options.get("do_sample") is False:
        temperature = 0.0
    eos = tokenizer.eos_token
    sent = [*stop, eos] if eos and eos not in stop else stop
    if thinks:
        sent = [eos] if eos else []
    ids = prompt_ids(tokenizer, text)
    truncated = False
    if max_model_len is not None:
        room = max_model_len - most
        if room < 1:
            raise DataError(
                f"the task asks for up to {most} new tokens, and the server's context has {max_model_len}; raise "
                "max_model_len, or lower the limit with gen_kwargs: {max_gen_toks: N}"
            )
        truncated = len(ids) > room
        ids = ids[-room:]
    payload = {"max_tokens": most, "temperature": temperature, "stop": sent, "seed": seed, **rest}
    return Prompt(
        ids=tuple(ids),
        payload=payload,
        stop=tuple(stop),
        truncated=truncated,
        thinks=(None if not thinks else "opened" if opens_thought(text) else "free"),
    )


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """As lm-eval's `hf` encodes a prompt: the tokenizer's special tokens, unless the text begins with BOS already."""
    begin = tokenizer.bos_token or tokenizer.eos_token
    special = not (begin and text.startswith(begin))
    ids: list[int] = tokenizer.encode(text, add_special_tokens=special)
    return ids


def render_chat(tokenizer: Any, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """A conversation rendered as lm-eval's `hf` does: without system messages if the template refuses them.

    Raises SpecError or CheckpointError.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise SpecError(
            "apply_chat_template: the checkpoint's tokenizer has no chat template; leave it out, or give it one"
        )
    if why := endless(tokenizer.chat_template):
        raise CheckpointError(f"apply_chat_template: {why}")
    for kept in (messages, [message for message in messages if message["role"] != "system"]):
        try:
            text: str = tokenizer.apply_chat_template(
                kept,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        except jinja2.exceptions.TemplateError as error:
            failure: Exception = error
            continue
        return text
    raise SpecError(f"apply_chat_template: the checkpoint's chat template refuses the conversation ({failure})")


def cut(text: str, stop: Sequence[str], specials: Sequence[str]) -> str:
    """The text before the first stop string (whether or not the server stopped there), without special tokens, as in lm-eval's `hf`."""
    for mark in stop:
        if mark:
            text = text.split(mark)[0]
    for token in specials:
        text = text.replace(token, "")
    return text
