"""A chat model as a user names it: in a spec, on a command line, among lm-eval's arguments. Opens nothing."""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue, model_validator

from harness.core.credential import Address, Variable, shown_variable
from harness.core.errors import SpecError
from harness.core.measurement import Record
from harness.core.sampling import unfit_sampling

GREEDY: dict[str, JsonValue] = {"temperature": 0.0}


def _fit(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if wrong := unfit_sampling(value):
        raise ValueError(wrong)
    return value


Sampling = Annotated[dict[str, JsonValue], AfterValidator(_fit)]


class ChatConfig(Record):
    """Which model, where it answers, and how it is asked. Its key is read from the environment and stored in no record."""

    model: str = Field(min_length=1, description="hosted_vllm/NAME, openai/NAME, any of litellm's; or checkpoint")
    api_base: Address | None = Field(default=None, description="address of its endpoint, ending in /v1")
    api_key_env: Variable | None = Field(default=None, description="environment variable that holds its key")
    args: Sampling = Field(default=GREEDY, description="sampling options sent with every request")

    @model_validator(mode="before")
    @classmethod
    def _address_among_args(cls, value: Any) -> Any:
        """Move an `api_base` out of `args`, where tau2-bench's users put it: an address is no part of what is measured."""
        if isinstance(value, dict) and isinstance(value.get("args"), dict) and "api_base" in value["args"]:
            args = {key: item for key, item in value["args"].items() if key != "api_base"}
            return {**value, "args": args, "api_base": value.get("api_base") or value["args"]["api_base"]}
        return value

    def key(self) -> str | None:
        """The endpoint's key; None where no variable is named. Raises SpecError where that is not set."""
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env)
        if not key:
            raise SpecError(
                f"the environment variable {shown_variable(self.api_key_env)} is not set; export the key of {self.model} in it"
            )
        return key

    def identity(self) -> dict[str, JsonValue]:
        """What decides the answers: the model and its options, not the address."""
        return {"model": self.model, "args": dict(self.args)}
