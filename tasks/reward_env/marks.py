"""Marks in the data for what is trained: desirable answers (KTO) and turns with or without a loss. Knows no template.

The keys are those that trainers read: `weight` (OpenAI, Mistral, Together, axolotl), `train` and `training` (axolotl),
`loss` and `loss_scale` (ms-swift, XTuner, AgentInstruct), `loss_weight` (LLaMA-Factory), `loss_mask` (verl), `masked`
(torchtune), `mask` beside the turns (NeMo). A mark with a value other than yes or no is refused by name, and so is an
unknown key that looks like a mark.
"""

from __future__ import annotations

import re
from typing import Any

from harness.core.errors import DataError
from harness.tasks.reward_env.records import Located

WANTED = ("kto_tag", "label", "kto_label", "desirable", "is_desirable", "desired", "is_desired")
"""Keys of a record that say whether its answer is a wanted one; `label` also names classes and is read where it is yes or no."""

_LIKE_WANTED = frozenset(
    [
        *(
            "label",
            "kto_tag",
            "kto_label",
            "completion_label",
            "desirable",
            "is_desirable",
            "desired",
            "is_desired",
            "wanted",
        ),
        *(
            "is_wanted",
            "chosen",
            "is_chosen",
            "accepted",
            "is_accepted",
            "preferred",
            "is_preferred",
            "thumbs_up",
            "good",
        ),
        *("is_good", "liked", "is_liked"),
    ]
)
_LIKE_UNWANTED = frozenset(
    [
        *(
            "undesirable",
            "is_undesirable",
            "undesired",
            "is_undesired",
            "unwanted",
            "is_unwanted",
            "rejected",
            "is_rejected",
        ),
        *("dispreferred", "is_dispreferred", "thumbs_down", "bad", "is_bad", "disliked", "is_disliked"),
    ]
)
"""Keys that may mean the same, and that no trainer reads."""

TRAINED = frozenset(
    [
        *("weight", "loss", "loss_weight", "loss_scale", "loss_mask", "compute_loss", "calculate_loss", "with_loss"),
        *("output_with_loss", "has_loss", "use_loss", "include_in_loss", "train", "training", "trainable", "trained"),
        *("is_trained", "is_trainable", "is_training", "train_on", "train_on_turn", "to_train", "should_train"),
        *("use_for_training", "supervised", "is_supervised", "learn", "to_learn", "unmasked", "is_unmasked"),
        *("is_target", "sft", "is_sft", "backprop", "grad", "requires_grad", "in_loss"),
    ]
)
"""Keys of a turn that are true where it is trained."""

MASKED = frozenset(
    [
        *("mask", "masked", "is_masked", "mask_loss", "masked_loss", "loss_masked", "ignore", "ignored", "ignore_loss"),
        *("no_loss", "skip_loss", "exclude_from_loss", "no_train", "do_not_train", "dont_train", "skip_training"),
    ]
)
"""Keys of a turn that are true where it is not trained."""

ON_INPUT = frozenset(("train_on_input", "train_on_inputs", "train_on_prompt", "train_on_user"))
"""Keys for whether the questions are trained as well: true is refused, as only answers are scored."""

OF_A_RECORD = frozenset(("weight", "loss_weight", "loss_mask", "train", "trainable", "masked", "is_masked"))
"""Keys whose 0 and 1 are marks in a record, beside its turns, as well; a `loss` there may be a measurement."""

PARTS_OF_TURN = ("train_detail", "training_detail", "loss_spans", "train_spans", "mask_spans")
MEDIA = (
    *("images", "image", "videos", "video", "audios", "audio", "image_url", "image_path", "image_paths", "video_path"),
    *("audio_path", "pixel_values"),
)
_OF_AN_ANSWER = re.compile(r"^(rejected|chosen|positive|negative|ref|input|prompt)_")
"""What stands before MEDIA where they go with one of two answers, or with the question."""
TOKEN_MASKS = ("loss_mask", "loss_masks", "mask", "masks", "assistant_masks", "completion_mask", "labels_mask")
_WORD = re.compile(
    r"(un|non|de)?mask(s|ed|ing)?|(un|non|pre)?train(s|ed|ing|able)?|loss(es)?|weight(s|ed|ing)?|(un)?supervis(e|ed|ion)"
    r"|backprop(agate|agated|agation)?|grad(s|ient|ients)?|learn(s|ed|able)?|optimi[sz]e(s|d)?"
)
"""A word of a key that may say whether a turn is trained."""
_MEASURED = frozenset(
    [
        *(
            "avg",
            "average",
            "mean",
            "value",
            "values",
            "eval",
            "val",
            "valid",
            "validation",
            "test",
            "sum",
            "total",
            "per",
        ),
        *("std", "min", "max", "final", "initial", "score", "history", "curve", "log"),
    ]
)
"""Words that make a `loss` a measurement."""
_FLAGS = frozenset(
    ("true", "false", "yes", "no", "on", "off", "0", "1", "0.0", "1.0", "train", "trained", "mask", "masked")
)


def wanted(record: Located) -> bool | None:
    """Whether a record's answer is a desirable one; None without a mark. Raises DataError."""
    found = {}
    for key in WANTED:
        value = record.value.get(key)
        if value is None or value == "":
            continue
        if isinstance(value, bool):
            found[key] = value
        elif isinstance(value, str) and value.strip().lower() in ("true", "false"):
            found[key] = value.strip().lower() == "true"
        elif key == "label" and not _may_be_unwanted(value):
            continue  # a class, or the text of one
        else:
            raise DataError(
                f"{record.where}: {key!r} is {value!r}, and whether that marks a wanted answer is not clear; write true or "
                "false, or rename the key if it says something else"
            )
    if len(set(found.values())) > 1:
        raise DataError(f"{record.where}: {' and '.join(map(repr, found))} disagree; correct or remove one")
    return next(iter(found.values()), None)


def trained(turn: dict[str, Any], where: str, *, answer: bool) -> bool | None:
    """Whether a turn is trained, None without a mark; `answer`: whether it is the assistant's. Raises DataError."""
    if not answer:
        _check_question(turn, where)
        return None
    found: dict[str, bool] = {}
    for part in turn["content"] if isinstance(turn.get("content"), list) else ():
        mark = (
            next((key for key in part if _may_be_mark(snake(key).split("_"), part[key])), None)
            if isinstance(part, dict)
            else None
        )
        if mark is not None and part[mark] is not None:
            raise DataError(
                f"{where}: {mark!r} marks a part of a turn, and a turn is scored as a whole; remove the key"
            )
    for key, value in turn.items():
        if value is None or value == []:
            continue
        spans = isinstance(value, list) and any(isinstance(one, dict) and "begin_offset" in one for one in value)
        if key in PARTS_OF_TURN or spans:
            raise DataError(f"{where}: {key!r} marks parts of a turn, and a turn is scored as a whole; remove the key")
        name = snake(key)
        if name in TRAINED or name in MASKED:
            found[key] = _flag(value, key, where) is (name in TRAINED)
        elif name in ON_INPUT and _flag(value, key, where) is False:
            raise DataError(
                f"{where}: {key!r} of an answer is {value!r}, and whether it is trained is not clear; write 'weight': 0 or 1"
            )
        elif name not in ON_INPUT and _may_be_mark(name.split("_"), value):
            raise DataError(
                f"{where}: key {key!r} of a turn looks like a training mark that is not known; write 'weight': 0 or 1, "
                "or rename the key if it says something else"
            )
    if len(set(found.values())) > 1:
        raise DataError(f"{where}: {' and '.join(map(repr, found))} of a turn disagree; correct or remove one")
    return next(iter(found.values()), None)


def _check_question(turn: dict[str, Any], where: str) -> None:
    """Refuse a turn that is marked as trained and is not the assistant's; trainers ignore `weight` there."""
    for key, value in turn.items():
        asked = snake(key) in (TRAINED | ON_INPUT) - {"weight"}
        if asked and value is not None and value != [] and _flag(value, key, where):
            raise DataError(
                f"{where}: {key!r} marks a turn that is not the assistant's as trained, and only answers are scored; remove it"
            )


def check_record(record: Located) -> None:
    """Refuse a record with keys for what is not supported: media, masks of tokens, options of a template. Raises DataError."""
    where, value = record
    for key, held in value.items():
        if held and (
            _OF_AN_ANSWER.sub("", snake(key)) in MEDIA
            or (key == "objects" and isinstance(held, dict) and "bbox" in held)
        ):
            raise DataError(
                f"{where}: {key!r} is not empty; images, video and audio are not scored, so remove the record"
            )
    for key, mask in value.items():
        if key in TOKEN_MASKS and isinstance(mask, list) and mask:
            raise DataError(
                f"{where}: {key!r} is a list beside the turns; write 'weight': 0 or 1 into the turns instead"
            )
        if key not in TOKEN_MASKS and _marks_turns(snake(key), mask):
            raise DataError(
                f"{where}: {key!r} looks like a list of the turns that are trained; write 'weight': 0 or 1 into the turns instead"
            )
    for role in _names(value.get("mask")):
        if role.lower() in ("assistant", "gpt", "model", "chatgpt"):
            raise DataError(f"{where}: 'mask' is {value['mask']!r}, so the answers are not trained; remove the record")
    for key, mark in value.items():
        name = snake(key)
        if name in TRAINED | MASKED and _says(mark, name in MASKED, number=name in OF_A_RECORD):
            raise DataError(f"{where}: {key!r} is {mark!r}, so the record is not trained; remove it")
        if (key not in WANTED and name in _LIKE_WANTED and _says(mark, False)) or (
            name in _LIKE_UNWANTED and _says(mark, True)
        ):
            raise DataError(
                f"{where}: {key!r} is {mark!r}, which looks like an answer that is not wanted; write 'label': false, or remove "
                "the key"
            )
        if _last_alone(name) and _says(mark, True):
            raise DataError(
                f"{where}: {key!r} is {mark!r}, so the last answer alone is trained; write 'weight': 0 into the turns before it"
            )
        if name in ON_INPUT and _says(mark, True, number=True):
            raise DataError(f"{where}: {key!r} is true, but only answers are scored, not questions; remove the key")
    if value.get("type") in ("VALUE_TO_TEXT", "TEXT_TO_VALUE"):
        raise DataError(
            f"{where}: 'type' {value['type']!r} puts labels into the prompt, which is not done here; remove it"
        )
    for key in ("chat_template_kwargs", "enable_thinking"):
        if value.get(key) not in (None, {}, ""):
            raise DataError(
                f"{where}: {key!r} sets the chat template, which is not applied here; set chat_template in the spec"
            )


def _marks_turns(name: str, value: Any) -> bool:
    """Whether a list beside the turns may name those that are trained, or say yes or no to each."""
    if not isinstance(value, list) or not value or not any(map(_WORD.fullmatch, name.split("_"))):
        return False
    if _MEASURED & set(name.split("_")):
        return False
    return all(isinstance(one, int) or (isinstance(one, float) and one in (0, 1)) for one in value)


def _last_alone(name: str) -> bool:
    """Whether a key of a record may say that the answers before the last are context (`mask_history`, `last_turn_only`)."""
    words = set(name.split("_"))
    if "history" in words:
        return bool(words & {"mask", "masked", "ignore"})
    return bool(words & {"last", "final"} and words & {"only", "train", "trained", "loss", "supervise", "supervised"})


def _says(mark: Any, yes: bool, *, number: bool = False) -> bool:
    """Whether a mark of a record is `yes`: true or false, or these as text (the cells of a table are text), where `number` also
    1 or 0."""
    if isinstance(mark, str):
        word = mark.strip().lower()
        return word == str(yes).lower() or (number and word in (("1", "1.0") if yes else ("0", "0.0")))
    return mark is yes or (number and isinstance(mark, int | float) and mark == yes)


def _may_be_unwanted(label: Any) -> bool:
    if isinstance(label, str):
        return label.strip().lower() in (
            "0",
            "0.0",
            "-1",
            "-1.0",
            "undesirable",
            "undesired",
            "unwanted",
            "rejected",
            "dispreferred",
        )
    return isinstance(label, int | float) and label in (0, -1)


def _may_be_mark(words: list[str], value: Any) -> bool:
    """Whether a key of these words may be a mark of whether a turn is trained. Other texts and objects are not."""
    if not any(map(_WORD.fullmatch, words)):
        return False
    if isinstance(value, str):
        return value.strip().lower() in _FLAGS
    if isinstance(value, int | float) and "loss" in words and not {"weight", "mask", "scale"} & set(words):
        return isinstance(value, bool) or (value in (0, 1) and not _MEASURED & set(words))
    return not isinstance(value, dict)


def _flag(value: Any, key: str, where: str) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    clear = isinstance(value, bool) or (number and value in (0, 1) and key != "mask")
    if not clear:
        wanted = "0 or 1" if number and key != "mask" else "true or false"
        raise DataError(
            f"{where}: {key!r} of a turn is {value!r}; a turn is scored or it is not, so write {wanted}"
            + (", or 'weight': 0 or 1" if key == "mask" else "")
        )
    return bool(value)


def _names(value: Any) -> list[str]:
    return re.findall(r"\w+", value) if isinstance(value, str) else []


def snake(key: str) -> str:
    """A key in snake case: isTrained, is-trained and IS_TRAINED are is_trained."""
    return "_".join(word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+", key))
