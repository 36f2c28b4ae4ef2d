"""Reference calls as a log-prob field: real policies, tools and answers; one cluster per task; scored end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from tau2_samples import needs_port

from harness.cli import run
from harness.core.errors import CheckpointError, DataError, SpecError
from harness.tasks.reward_env.catalog import load_field
from harness.tasks.tau2.sources import open_domain

pytestmark = needs_port
DOMAINS = ("airline", "retail", "telecom")
NO_TOOLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_CALLS = tiny.CHAT_TEMPLATE.replace("<tool_call>{{ c.function | tojson }}</tool_call>", "")


def definition(tmp_path: Path, text: str) -> str:
    path = tmp_path / "actions.yaml"
    path.write_text(f"task: actions\nmetadata:\n  tau2: {text}\n")
    return str(path)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_pair_has_policy_tools_scenario_and_the_answers_so_far(domain: str) -> None:
    field: Any = load_field(f"tau2_{domain}_actions")
    pairs = field.pairs(tiny.tokenizer())
    opened = open_domain(domain)
    solo = domain == "telecom"
    assert field.source["sample"] == 20 and field.source["solo"] == solo
    assert field.source["task_revision"].startswith("sha256:") and "inspect-evals" in field.source["environment"]
    assert len(pairs) == len(field) and len({pair.cluster for pair in pairs}) == 20
    tasks = {task.id: task for task in opened.tasks()}
    for conversation in field.content:
        task = tasks[conversation.id]
        mine = [pair for pair in pairs if pair.cluster == conversation.id]
        assert task.evaluation_criteria is not None
        for action, pair in zip(task.evaluation_criteria.actions or (), mine, strict=True):
            assert action.name in pair.r and "<|im_start|>" not in pair.r and pair.r.endswith("<|im_end|>")
            assert opened.policy(solo=solo).strip() in pair.q and pair.q.endswith("<|im_start|>assistant\n")
            assert all(json.dumps(name) in pair.q for name in opened.tools)
            wanted = task.ticket if solo else task.user_scenario["instructions"]["known_info"]
            assert wanted.strip() in pair.q
        for answer, pair in zip(conversation.messages[3::2], mine[1:], strict=False):
            assert answer["role"] == "tool" and answer["content"] in pair.q
        assert len(conversation.messages) == 2 + 2 * len(mine)


def test_answers_are_those_of_the_environment_in_its_state(tmp_path: Path) -> None:
    field: Any = load_field(definition(tmp_path, "{domain: retail}"))
    answers = [m["content"] for item in field.content for m in item.messages if m["role"] == "tool"]
    assert len(answers) == len(field) == 553
    assert any('"status": "cancelled"' in answer for answer in answers)
    assert not any("not found." in answer for answer in answers)


def test_a_sample_is_seeded_and_part_of_the_identity(tmp_path: Path) -> None:
    def loaded(text: str) -> Any:
        return load_field(definition(tmp_path, text))

    one, again = (loaded("{domain: airline, sample: 5, seed: 1}") for _ in range(2))
    other = loaded("{domain: airline, sample: 5, seed: 2}")
    assert one.digest == again.digest != other.digest and one.source == again.source
    assert one.source["sample"] == 5 and one.source["of_tasks"] == 43
    assert len(one.head(1).content) == 1 and type(one.head(1)) is type(one)
    assert len(loaded("{domain: airline, sample: 500}").content) == 43


@pytest.mark.parametrize(
    ("template", "what"), [(NO_TOOLS, "tools"), (NO_CALLS, "tool calls"), (None, "no chat template")]
)
def test_a_template_that_leaves_out_tools_is_refused(tmp_path: Path, template: str | None, what: str) -> None:
    field = load_field(definition(tmp_path, "{domain: airline, sample: 2}"))
    with pytest.raises(CheckpointError, match=what if template is None else "leaves out (the )?tool"):
        field.pairs(tiny.tokenizer(chat_template=template))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{domain: mock}", "metadata.tau2.domain"),
        ("{domain: retail, sample: 0}", "metadata.tau2.sample"),
        ("{domain: retail, tasks: 3}", "metadata.tau2.tasks"),
        ("retail", "metadata.tau2"),
        ("{domain: telecom, split: nope}", "domain telecom has no split 'nope'"),
    ],
)
def test_a_wrong_definition_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_field(definition(tmp_path, text))


def test_options_of_other_fields_do_not_apply(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="do not apply to tau2's tasks"):
        load_field("tau2_retail_actions", revision="main")
    with pytest.raises(SpecError, match="go with data files"):
        load_field("tau2_retail_actions", chat_template=tmp_path / "x")


def test_the_field_is_scored_like_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [
        open_domain("retail").policy(),
        *(pair.q for pair in load_field("tau2_retail_actions").pairs(tiny.tokenizer())),
    ]
    tokenizer = tiny.tokenizer().train_new_from_iterator(texts, 3_000, show_progress=False)
    model = tiny.llama(vocab_size=len(tokenizer), max_position_embeddings=16_384)
    checkpoint = tiny.save(tmp_path / "model", model, tokenizer)
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "components:\n- {name: tau2_retail_actions, kind: logprob, field: tau2_retail_actions, role: target, limit: 2}\n"
    )
    assert run(["score", str(checkpoint), "--spec", str(spec), "--out", str(tmp_path / "out")]) == 0
    assert "tau2_retail_actions: not validated: " in capsys.readouterr().err
    vector = json.loads((tmp_path / "out" / "rewards.jsonl").read_text())
    (component,) = vector["components"]
    assert component["status"] == "ok" and component["raw"] < 0 and component["n_scored"] == component["n_items"] >= 2
    assert component["detail"]["caveat"].startswith("not validated")
    task = vector["provenance"]["tasks"]["tau2_retail_actions"]
    assert task["tau2"] == "retail" and task["task_revision"].startswith("sha256:") and task["seed"] == 1234


def test_naming_fields_imports_no_domain() -> None:
    code = (
        "import sys\nfrom harness.tasks.reward_env.catalog import named_fields\n"
        "assert 'tau2_retail_actions' in named_fields()\n"
        "print([m for m in sys.modules if m.startswith(('harness.tasks.tau2', 'inspect_evals'))])"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "[]\n"
