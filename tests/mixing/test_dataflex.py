"""DataFlex's own registry, mixer and mixture manager, with our mixer in them; skipped where `.ci/dataflex.sh` made no environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import tiny

from harness.mixing.agent import Agent, Settings

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("HARNESS_DATAFLEX", ROOT / ".venv-dataflex")) / "bin" / "python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no DataFlex here; .ci/dataflex.sh installs it, $HARNESS_DATAFLEX names it"),
]  # fmt: skip
PROGRAM = """
import json, sys
from types import SimpleNamespace
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
import harness.mixing.dataflex
from dataflex.core.registry import REGISTRY
from dataflex.train.dataset.mixed_proportion_manager import MixedProportionManager
from dataflex.train.mixer.base_mixer import Mixer
from dataflex.utils.load_component import load_component

folder = sys.argv[1]
model = AutoModelForCausalLM.from_pretrained(f"{folder}/model")
collator = SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(f"{folder}/model"))
sources = {name: Dataset.from_dict({"text": [f"{name} {i}" for i in range(9)]}) for name in ("web", "code")}
manager = MixedProportionManager(sources, proportions=[0.9, 0.1])
params = load_component("mixers", f"{folder}/components.yaml", "harness", runtime_vars={"${output_dir}": folder})
runtime = {"data_collator": collator, "output_dir": folder, "dataset": None, "accelerator": None}
mixer = REGISTRY.build("mixer", "harness", runtime=runtime, cfg={**params, "mixture_manager": manager})
assert isinstance(mixer, Mixer)
told = []
for step in (2, 4, 6):
    shares = mixer.mix(model=model, step_id=step, batch=None, domain_ids=None, data_collator=collator, dataset=None)
    manager.set_proportions(shares)
    snapshot = manager.rebuild(num_samples=40)
    told.append([shares.tolist(), sum(snapshot[i]["domain_id"] == 0 for i in range(40))])
    with torch.no_grad():
        model.lm_head.weight.mul_(1.1)
print(json.dumps(told))
"""


def test_the_mixers_proportions_are_the_agents_and_every_update_is_a_vector(tmp_path: Path) -> None:
    tiny.save(tmp_path / "model", tiny.llama())
    field = tmp_path / "field.jsonl"
    field.write_text("".join(f'{{"q": "a {i}", "r": " is {i * i}"}}\n' for i in range(6)))
    (tmp_path / "spec.yaml").write_text(f"components: [{{name: a, kind: logprob, field: {field}}}]\n")
    Agent(["code", "web"], ["a"], settings=Settings(width=16, heads=2)).save(tmp_path / "agent")
    params = {"spec": "${output_dir}/spec.yaml", "agent": "${output_dir}/agent"}
    (tmp_path / "components.yaml").write_text(
        json.dumps({"mixers": {"harness": {"name": "harness", "params": params}}})
    )
    done = subprocess.run(
        [str(PYTHON), "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    vectors = [json.loads(line) for line in (tmp_path / "rewards" / "rewards.jsonl").read_text().splitlines()]
    assert [vector["step"] for vector in vectors] == [2, 4, 6]
    trained_on = [dict(zip(v["mixture"]["domains"], v["mixture"]["weights"], strict=True)) for v in vectors]
    assert trained_on[0] == {"web": 0.9, "code": 0.1}
    for (shares, n_first), after in zip(told[:-1], trained_on[1:], strict=True):
        assert sum(shares) == pytest.approx(1.0) and n_first == int(40 * shares[0])
        assert after == pytest.approx(dict(zip(("web", "code"), shares, strict=True)))
