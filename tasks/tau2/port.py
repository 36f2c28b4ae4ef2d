"""inspect-evals' port of tau2-bench: its tool classes, databases and task files. The only module that imports it.

The port's tool classes are Inspect stores, and importing Inspect takes more than a second for a few names that are not
needed here. So the port's modules are imported with small stand-ins for those names, under a lock, and are removed from
sys.modules afterwards. A version of the port that needs more than the stand-ins have is imported with Inspect itself.
Either way the methods are taken out of the store classes and run on plain objects, each with its own database.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from harness.core.errors import DataError
from harness.core.extras import install
from harness.tasks.tau2.upstream import unrelated

PACKAGE = "inspect_evals"
MODULES = {
    "airline": ("airline.AirlineAgentTools", "airline.data_model", "airline.tools"),
    "retail": ("retail.RetailAgentTools", "retail.data_model", "retail.tools"),
    "banking_knowledge": (
        "banking.BankingAgentTools",
        "banking.BankingUserTools",
        "banking.data_model",
        "banking.tools",
        "banking.user_tools",
    ),
    "telecom": (
        "telecom.environment",
        "telecom.TelecomAgentTools",
        "telecom.TelecomUserTools",
        "telecom.data_model",
        "telecom.user_data_model",
        "telecom.tools",
        "telecom.user_tools",
    ),
}
TITLES = {"BankingAgentTools": "KnowledgeTools", "BankingUserTools": "KnowledgeUserTools"}
"""The port's names of tool classes -> upstream's, where these differ by more than `Agent`."""
_LOCK = threading.Lock()


@cache
def data_folder() -> Path:
    """Where the port keeps domains/DOMAIN/. Raises DataError where inspect-evals is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    for place in places:
        folder = Path(place) / "tau2" / "data" / "domains"
        if folder.is_dir():
            return folder
    what = "is not installed" if not places else "has no tau2 in it (it came with 0.3)"
    raise DataError(f"inspect-evals {what}; run: {install('tau2')}{unrelated()}")


def is_installed() -> bool:
    """Whether there is an inspect-evals here."""
    return importlib.util.find_spec(PACKAGE) is not None


@cache
def modules(domain: str) -> dict[str, ModuleType]:
    """The port's modules of a domain by their short names. Raises DataError where they cannot be imported."""
    data_folder()
    try:
        with _LOCK, _stand_ins():
            return _import(domain)
    except Exception as light:  # noqa: BLE001
        try:
            return _import(domain)
        except Exception as error:
            raise DataError(
                f"the tau2 port in inspect-evals does not import ({type(error).__name__}: {error}; "
                f"beside stand-ins: {light}); try: {install('tau2')} --upgrade"
            ) from error


def _import(domain: str) -> dict[str, ModuleType]:
    return {name.rpartition(".")[2]: importlib.import_module(f"{PACKAGE}.tau2.{name}") for name in MODULES[domain]}


def _foreign(name: str) -> bool:
    return name.partition(".")[0] in (PACKAGE, "inspect_ai")


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Within it `inspect_ai` is a few modules of ours and the port's packages run no code of their own."""
    kept = {name: module for name, module in sys.modules.items() if _foreign(name)}
    for name in kept:
        del sys.modules[name]
    try:
        sys.modules.update(_inspect_modules())
        yield
    finally:
        for name in [name for name in sys.modules if _foreign(name)]:
            del sys.modules[name]
        sys.modules.update(kept)


def _inspect_modules() -> dict[str, ModuleType]:
    from pydantic import BaseModel, ConfigDict

    class StoreModel(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)

    def as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def store_as(*_: Any, **__: Any) -> Any:
        raise RuntimeError("there is no store here")

    found = importlib.util.find_spec(PACKAGE)
    place = next(iter((found and found.submodule_search_locations) or ()))
    content: dict[str, dict[str, Any]] = {
        "inspect_ai": {"__path__": []},
        "inspect_ai.tool": {"Tool": object, "ToolError": type("ToolError", (Exception,), {}), "tool": as_it_is},
        "inspect_ai.util": {"StoreModel": StoreModel, "store_as": store_as},
        "inspect_ai.model": {"Content": object, "ContentText": object},
        PACKAGE: {"__path__": [place]},
        f"{PACKAGE}.tau2": {"__path__": [str(Path(place) / "tau2")]},
        f"{PACKAGE}.tau2.banking": {"__path__": [str(Path(place) / "tau2" / "banking")]},
    }
    made = {name: ModuleType(name) for name in content}
    for name, attributes in content.items():
        made[name].__dict__.update(attributes)
    return made


@cache
def plain_class(store_class: type) -> type:
    """A class with the methods and properties of a store class and nothing of Inspect's.

    It has upstream's name, which the model sees in Python's message for a missing argument.
    """
    title = TITLES.get(store_class.__name__) or store_class.__name__.replace("AgentTools", "Tools")
    members: dict[str, Any] = {}
    for name, member in vars(store_class).items():
        if name.startswith("__") or name == "initialize":
            continue
        if isinstance(member, FunctionType):
            copy = FunctionType(member.__code__, member.__globals__, name, member.__defaults__, member.__closure__)
            copy.__kwdefaults__, copy.__qualname__ = member.__kwdefaults__, f"{title}.{name}"
            members[name] = copy
        elif isinstance(member, property):
            members[name] = member
    return type(title, (), {"__doc__": store_class.__doc__, **members})


def instance(store_class: Any, database: Any, *, made_by: type | None = None) -> Any:
    """A plain object with the store class's methods (or of `made_by`, a class over them), its default fields and `database` as its `db`."""
    made = (made_by or plain_class(store_class))()
    for name, field in store_class.model_fields.items():
        if name not in ("db", "store", "instance", "initialized"):
            setattr(made, name, field.get_default(call_default_factory=True))
    made.db = database
    return made
