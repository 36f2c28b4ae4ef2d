"""How trainers name the folders of their steps, and the folders that they are still writing. Looks at names only."""

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
"""save-100, model_200, 300: a number at the end, which may be a step."""
NO_STEP = re.compile(
    r"(?:.*[^A-Za-z])?(?:seed|run|trial|rep|fold|rank|mix|mixture|proxy|v|version|r|lora|alpha)[-_=]?", re.IGNORECASE
)
"""Text before a number that is not a step but a seed, a run, a version, a rank."""
Numbered = Literal["ask", "steps", "models"]
"""Model folders whose names differ in a final number alone are `steps` of one training or separate `models`; `ask` raises SpecError."""
UNFINISHED = re.compile(r"tmp[-_.].*|.*[-_.](?:tmp|partial|incomplete|in[-_]?progress)(?:[-_.]?\d*)?", re.IGNORECASE)
"""tmp-checkpoint-40 (transformers, while it writes), checkpoint-40.tmp, checkpoint-40.partial."""


def step_of(name: str) -> int | None:
    """The step in a folder's name; None where it has none."""
    found = STEP.fullmatch(name) or NAMED_STEP.search(name)
    return int(found[1]) if found else None


class NumberedName(NamedTuple):
    """`save-100`: what siblings have in common, and the number that tells them apart."""

    stem: str
    number: int


def numbered_name(name: str) -> NumberedName | None:
    """The number at the end of a name, if it may be a step; None where there is none, or it is clearly something else."""
    found = NUMBERED.fullmatch(name)
    if found is None or step_of(name) is not None or NO_STEP.fullmatch(found["stem"]):
        return None
    return NumberedName(found["stem"], int(found["number"]))


def is_unfinished(name: str) -> bool:
    """Whether a folder of this name is hidden, or one that a trainer is still writing."""
    return name.startswith(".") or UNFINISHED.fullmatch(name) is not None
