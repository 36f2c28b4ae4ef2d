"""tau2 domains as lm-eval tasks: the class that the YAML files of tasks/tau2 name. Imported by lm-eval alone.

A task uses requests of a type of its own, `simulate`, which the model must support. The YAML's `metadata`, into which lm-eval merges
--model_args and --metadata, has the settings: domain, split, solo, num_trials, task_ids, source, data, ...
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.core.errors import SpecError
from harness.core.extras import install
from harness.core.tau2.task import REWARD_TYPES
from harness.lm_eval.tau2_order import UNSCORED_SHARE, SimulationOrder, metrics
from harness.tasks.tau2.task_file import task_value
from harness.tau2.flat import keys, named, nested
from harness.tau2.plan import Plan, make_plan
from harness.tau2.settings import settings_of

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import mean
    from lm_eval.api.model import LM
    from lm_eval.api.task import Task
    from lm_eval.config.task import TaskConfig
except ImportError as error:
    raise ImportError(f"tau2 tasks of lm-eval need lm-eval ({error}); {install('lm-eval')}") from error

REQUEST = "simulate"


def _refuse(model: Any, requests: Sequence[Any]) -> Any:
    raise SpecError(
        f"{type(model).__name__} has no `{REQUEST}`: tau2 tasks are simulations, which --model harness plays; "
        "run them as: harness lm-eval run --model harness --model_args agent_llm=...,user_llm=... --tasks ..."
    )


# lm-eval calls the method named for a request's type on the model. Models without `simulate` get this one, which raises a message.
if not hasattr(LM, REQUEST):
    LM.simulate = _refuse


class Tau2Task(Task):  # type: ignore[misc]
    """A domain's tasks; a document is one task, its request all its trials."""

    VERSION = 1.0
    OUTPUT_TYPE = REQUEST

    def __init__(self, config: Mapping[str, Any]) -> None:
        metadata = dict(config.get("metadata") or {})
        self.VERSION = metadata.get("version", self.VERSION)
        self.plan = _plan(metadata)
        super().__init__()
        self._config = TaskConfig(task=config["task"], output_type=REQUEST, num_fewshot=0, repeats=1, metadata=metadata)

    def download(self, *_: Any, **__: Any) -> None:
        """Set the data set from the plan; nothing is downloaded."""
        self.dataset = {"test": [task_value(task) for task in self.plan.tasks]}

    def has_training_docs(self) -> bool:
        """No."""
        return False

    def has_validation_docs(self) -> bool:
        """No."""
        return False

    def has_test_docs(self) -> bool:
        """Yes."""
        return True

    def test_docs(self) -> list[dict[str, Any]]:
        """The tasks, as in a task file."""
        docs: list[dict[str, Any]] = self.dataset["test"]
        return docs

    def doc_to_text(self, doc: dict[str, Any]) -> str:
        """The instructions of the simulated user, as JSON text."""
        return json.dumps(doc.get("user_scenario"))

    def doc_to_target(self, doc: dict[str, Any]) -> str:
        """The evaluation criteria, as JSON text."""
        return json.dumps(doc.get("evaluation_criteria"))

    def fewshot_context(self, doc: dict[str, Any], *_: Any, **__: Any) -> str:
        """The task itself: there are no examples in a conversation."""
        return self.doc_to_text(doc)

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> Instance:
        """One request for all trials of a task."""
        order = SimulationOrder(game=self._config.task, task_id=doc["id"], plan=self.plan)
        return Instance(request_type=REQUEST, doc=doc, arguments=(ctx, order), idx=0, metadata=kwargs["metadata"])

    def process_results(self, doc: dict[str, Any], results: Sequence[str]) -> dict[str, float | None]:
        """The task's metrics (tau2_order.py: metrics)."""
        return metrics(json.loads(results[0]))

    def aggregation(self) -> dict[str, Callable[..., float | None]]:
        """Means over tasks; a pass^k that is None for one task is None."""
        by_name: dict[str, Callable[..., float | None]] = dict.fromkeys(("reward", *REWARD_TYPES, UNSCORED_SHARE), mean)
        return {**by_name, **{f"pass^{k}": mean_if_all for k in range(1, self.plan.trials + 1)}}

    def higher_is_better(self) -> dict[str, bool]:
        """All but the share without a reward."""
        return {name: name != UNSCORED_SHARE for name in self.aggregation()}


def mean_if_all(values: Sequence[float | None]) -> float | None:
    """The mean; None when any value is."""
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None


def _plan(metadata: Mapping[str, Any]) -> Plan:
    """The plan of a task's metadata. Raises SpecError or DataError, before any request is sent."""
    values = {name: value for name, value in metadata.items() if name in keys()}
    for name in (
        "task_ids",
        "upstream",
    ):  # one name, several between semicolons (commas part model arguments), or a list
        value = values.get(name)
        values[name] = value.split(";") if isinstance(value, str) else value
    with named(str):
        return make_plan(settings_of(nested(values)))
