"""A chat template that comes with a checkpoint is a program. One that could use unbounded memory or time is first rendered in a
subprocess with limits; run as a script, this module is that subprocess.

Most templates only concatenate texts, which parsing them shows: those need no subprocess.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

TIME_S = 10
"""Processor seconds for a few short conversations."""
RENDER_S = 0.5
"""The same for each turn of the conversations that are to be rendered."""
WALL_S = 120.0
MEMORY_BYTES = 2**31
"""Address space of the trial, the interpreter's included."""
LONGEST = 2**20
"""Characters that a template may make of a conversation of some dozen words."""
REPLACES = 12
"""Replacements in a row that may double a text."""
GROWING = {"ljust", "rjust", "center", "zfill", "expandtabs", "format", "format_map", "translate"}
"""Methods and filters that make a long text of a number."""
Messages = Sequence[Mapping[str, Any]]
CONVERSATIONS: list[tuple[list[dict[str, Any]], list[dict[str, Any]] | None, list[int]]] = [
    ([{"role": "user", "content": "Where is it?"}], None, [0, 1]),
    (
        [
            {"role": "system", "content": "You help."},
            {"role": "user", "content": "Where is it?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "call00001", "type": "function", "function": {"name": "find", "arguments": {"number": "1"}}}
                ],
            },
            {"role": "tool", "tool_call_id": "call00001", "name": "find", "content": "here"},
            {"role": "assistant", "content": "Here."},
            {"role": "user", "content": "Thank you."},
        ],
        [
            {
                "type": "function",
                "function": {
                    "name": "find",
                    "description": "Find it.",
                    "parameters": {"type": "object", "properties": {"number": {"type": "string"}}},
                },
            }
        ],
        [5, 6],
    ),
]


def endless(
    template: str | Mapping[str, str] | None, conversations: Sequence[tuple[Messages, Messages | None, list[int]]] = ()
) -> str | None:
    """Why a template (or any of several by name) must not be rendered; None where it may be.

    A template may be harmless for the trial's own conversations and not for others: `conversations` are those that it is to
    render, each its messages, its tools, and the positions before and after which it is rendered.
    """
    texts = [] if template is None else [template] if isinstance(template, str) else list(template.values())
    why = next((why for text in texts if (why := _endless(text))), None)
    if why is not None or not conversations:
        return why
    return next((why for text in texts if not is_plain(text) and (why := _tried(text, conversations))), None)


@lru_cache(maxsize=256)
def _endless(template: str) -> str | None:
    return None if is_plain(template) else _tried(template, CONVERSATIONS, of="a short conversation")


def _tried(
    template: str,
    conversations: Sequence[tuple[Messages, Messages | None, list[int]]],
    *,
    of: str = "",
) -> str | None:
    n = sum(len(turns) for _, _, turns in conversations)
    time_s = TIME_S + math.ceil(n * RENDER_S)
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__],
            input=json.dumps([template, conversations, time_s, of or "a conversation of the data"]).encode(),
            capture_output=True,
            timeout=WALL_S + 10 * time_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the chat template does not come to an end within {WALL_S + 10 * time_s:g} s"
    if done.returncode == 0:
        said = done.stdout.decode("utf-8", "replace").strip()
        return said or None
    what = of or f"{len(conversations)} conversation(s)"
    return f"the chat template takes more than {time_s} s or {MEMORY_BYTES // 2**30} GiB for {what}"


def is_plain(template: str) -> bool:
    """Whether a template only concatenates what it is given, so that its output cannot be much longer than its input."""
    import jinja2
    from jinja2 import nodes

    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
    except (jinja2.TemplateError, RecursionError):
        return False
    if any(tree.find_all((nodes.Mul, nodes.Pow, nodes.Mod, nodes.Macro, nodes.CallBlock, nodes.FilterBlock))):
        return False
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name in ("range", "lipsum", "cycler", "joiner", "loop"):
            return False
    named = [node.attr for node in tree.find_all(nodes.Getattr)] + [node.name for node in tree.find_all(nodes.Filter)]
    named += [node.arg.value for node in tree.find_all(nodes.Getitem) if isinstance(node.arg, nodes.Const)]
    if GROWING & set(map(str, named)) or named.count("replace") > REPLACES:
        return False
    for node in tree.find_all((nodes.Add, nodes.Concat, nodes.List)):
        names = Counter(name.name for name in node.find_all(nodes.Name))
        if any(n > 1 for n in names.values()) and any(_grows(assign, names) for assign in tree.find_all(nodes.Assign)):
            return False
    return all(_depth(loop) < 3 and not loop.recursive for loop in tree.find_all(nodes.For))


def _grows(assign: Any, names: Counter[str]) -> bool:
    """Whether a variable is set to something made of itself more than once."""
    from jinja2 import nodes

    targets = (
        {name.name for name in assign.target.find_all(nodes.Name)}
        if not hasattr(assign.target, "name")
        else {assign.target.name}
    )
    return any(names[name] > 1 for name in targets)


def _depth(loop: Any) -> int:
    """How many loops lie in each other, this one included."""
    from jinja2 import nodes

    return 1 + max((_depth(inner) for part in loop.body for inner in _loops(part, nodes.For)), default=0)


def _loops(node: Any, kind: Any) -> list[Any]:
    return [node] if isinstance(node, kind) else list(node.find_all(kind))


def main() -> None:
    """Render the template on standard input under limits; say what is wrong, or nothing. A template's own refusals are none."""
    import resource

    template, conversations, time_s, of = json.loads(content := sys.stdin.buffer.read())
    from transformers.utils.chat_template_utils import render_jinja_template

    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(used.ru_utime + used.ru_stime) + 1 + time_s
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    most = MEMORY_BYTES + 20 * len(content)  # the conversations are no fault of the template's
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if (what := _folded(template)) is not None:
        print(f"the chat template ends in {what} when it is compiled")  # noqa: T201
        return
    for messages, tools, turns in conversations:
        longest = LONGEST + 100 * len(json.dumps([messages, tools]))
        for end, prompt in [each for turn in turns for each in ((turn, True), (turn + 1, False))]:
            try:
                made, _ = render_jinja_template(
                    conversations=[messages[:end]],
                    tools=tools,
                    chat_template=template,
                    add_generation_prompt=prompt,
                    bos_token="<s>",
                    eos_token="</s>",
                    pad_token="<pad>",
                )
            except (MemoryError, RecursionError, OverflowError) as error:
                print(f"the chat template ends in {type(error).__name__} for {of}")  # noqa: T201
                return
            except Exception:  # noqa: BLE001 - a template may raise anything
                continue
            if len(made[0]) > longest:
                print(f"the chat template makes {len(made[0])} characters of {of}")  # noqa: T201
                return


def _folded(template: str) -> str | None:
    """The error that a constant expression of a template raises, None if none does. Jinja folds constants when it compiles, in every
    branch, and ignores errors in that: under limits a MemoryError would pass unseen that without limits takes all memory."""
    from jinja2 import nodes
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        tree = _compile_jinja_template(template).environment.parse(template)
    except (MemoryError, RecursionError, OverflowError) as error:
        return type(error).__name__
    except Exception:  # noqa: BLE001 - not a valid template: rendering it reports that
        return None
    for node in tree.find_all(nodes.Expr):
        try:
            node.as_const()
        except nodes.Impossible as error:
            if isinstance(error.__cause__, MemoryError | OverflowError):
                return type(error.__cause__).__name__
        except (MemoryError, OverflowError) as error:
            return type(error).__name__
        except Exception:  # noqa: BLE001 - left as it is, as Jinja leaves it
            continue
    return None


if __name__ == "__main__":
    main()
