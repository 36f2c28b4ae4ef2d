"""How trainers name the folders of their steps, and those that they are still writing. Names alone; no files."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

STEP = re.compile(
    r"(?:hf[-_])?"
    r"(?:checkpoint|ckpt|global[-_]?step|step|iteration|iter|epoch|(?:ep\d+[-_])?ba)[-_=]?(\d+)"
    r"(?:[-_.](?:hf|huggingface|merged|unsharded|safetensors|bf16|fp16|fp32))?",
    re.IGNORECASE,
)
"""transformers, TRL, LLaMA-Factory, axolotl: checkpoint-100. torchtune: epoch_0. open-instruct, OLMo: step1000-hf, step1000-unsharded.
verl, DeepSpeed: global_step100. Megatron, NeMo: iter_0000100. Composer, llm-foundry: ba500, ep0-ba500. XTuner: iter_500_hf.
"""
NAMED_STEP = re.compile(r"(?:^|[-_])step=(\d+)(?:$|[-_.])")
"""Lightning: epoch=1-step=200, step=200."""
NUMBERED = re.compile(r"(?P<stem>|.*[^0-9.])(?P<number>\d+)")
"""save-100, model_200, 300: a number at the end, of steps perhaps."""
NO_STEP = re.compile(
    r"(?:.*[^A-Za-z])?(?:seed|run|trial|rep|fold|rank|mix|mixture|proxy|v|version|r|lora|alpha)[-_=]?", re.IGNORECASE
)
"""What stands before a number that is no step: of a seed, a run, a version, a rank."""
Numbered = Literal["ask", "steps", "models"]
"""What model folders are that differ in a number at their ends alone: steps of one training, models of their own, or a question."""
UNFINISHED = re.compile(r"tmp[-_.].*|.*[-_.](?:tmp|partial|incomplete|in[-_]?progress)(?:[-_.]?\d*)?", re.IGNORECASE)
"""tmp-checkpoint-40 (transformers, while it writes), checkpoint-40.tmp, checkpoint-40.partial."""


def step_of(name: str) -> int | None:
    """The step that a folder's name says; None where it says none."""
    found = STEP.fullmatch(name) or NAMED_STEP.search(name)
    return int(found[1]) if found else None


class NumberedName(NamedTuple):
    """`save-100`: what siblings have in common, and the number that tells them apart."""

    stem: str
    number: int


def numbered_name(name: str) -> NumberedName | None:
    """The number at the end of a name, if it may be a step's; None where it has none, or one that says what else it is."""
    found = NUMBERED.fullmatch(name)
    if found is None or step_of(name) is not None or NO_STEP.fullmatch(found["stem"]):
        return None
    return NumberedName(found["stem"], int(found["number"]))


def is_unfinished(name: str) -> bool:
    """Whether a folder of this name is one that a trainer has not finished, or nobody's."""
    return name.startswith(".") or UNFINISHED.fullmatch(name) is not None
