"""Trains a proxy for a step on a mixture: the protocol, and a trainer over token files for a causal LM of transformers."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from pydantic import Field

from harness.checkpoints.fingerprint import SINGLE, read_json, weight_files
from harness.checkpoints.foreign import foreign_format
from harness.core.errors import CheckpointError, DataError, StateError
from harness.core.measurement import Record
from harness.core.safetensors_header import read_header
from harness.mixing.domains import Floats
from harness.mixing.tokens import Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

UNREAD = ("*.safetensors", "pytorch_model*", "tf_model*", "flax_model*", "consolidated*")
"""Weights under names that transformers does not look for, or in formats that are not taken from here."""


class Trainer(Protocol):
    """Trains one model at a time, a step per mixture. Equal seeds and mixtures give equal weights, independent of earlier trajectories.

    class Echo:                                        # the smallest one: a model that nothing changes
        domains = ("web", "code")
        def __init__(self, model, tokenizer): self.model, self.tokenizer, self.tokens = model, tokenizer, 0
        def reset(self, seed): self.tokens = 0
        def step(self, rho): self.tokens += 1000; return self.tokens
        def state(self): return str(self.tokens).encode()
        def resume(self, state): self.tokens = int(state)
    """

    @property
    def domains(self) -> Sequence[str]:
        """Names of a mixture's shares, in order."""
        ...

    @property
    def model(self) -> Any:
        """In memory, as `RewardEnvironment.feedback` takes it; after `reset` or `resume`."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        ...

    def reset(self, seed: int) -> None:
        """Begin a trajectory: with the initial model, and the data in the seed's order."""
        ...

    def step(self, rho: Floats) -> int:
        """Train on a mixture, shape [N]; returns the tokens seen since `reset`."""
        ...

    def state(self) -> bytes:
        """Everything that `resume` needs to continue bit for bit."""
        ...

    def resume(self, state: bytes) -> None:
        """Continue from a state; called instead of `reset`. Raises StateError."""
        ...


class Recipe(Record):
    """How a TokenTrainer trains: everything that decides its weights, except the content of the files that it names."""

    tokens: dict[str, str] = Field(min_length=1, description="domain -> .npy or .bin file of token ids")
    bases: list[str] = Field(
        min_length=1, description="model folders to start from; several: a trajectory's seed draws one"
    )
    length: int = Field(default=128, ge=2, description="tokens of a window")
    rows: int = Field(default=16, ge=1, description="windows of an optimizer's update")
    updates: int = Field(default=8, ge=1, description="of the optimizer, in a step")
    rate: float = Field(default=3e-3, gt=0, description="AdamW's, constant")
    decay: float = Field(default=0.0, ge=0, description="AdamW's weight decay")
    clip: float = Field(default=1.0, gt=0, description="of the gradient's norm")
    seed: int = Field(default=0, ge=0, description="of the weights, where a base has a configuration alone")

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a step, the same for every mixture."""
        return self.updates * self.rows * self.length


class TokenTrainer:
    """AdamW at a constant rate on windows of token files; one thread gives equal bits on one machine.

    A base is a folder of transformers with weights; with config.json alone, weights are drawn from the recipe's seed. The first base's
    tokenizer is used for all. Raises DataError for token files, CheckpointError for a base that cannot be loaded.
    """

    def __init__(self, recipe: Recipe) -> None:
        from transformers import AutoTokenizer

        check_bases(recipe)
        self.recipe = recipe
        self._windows = Windows(recipe.tokens, length=recipe.length)
        self.domains = self._windows.domains
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(recipe.bases[0])
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"no tokenizer in {recipe.bases[0]}: {str(error).splitlines()[0]}; "
                "save the tokenizer beside the weights: tokenizer.save_pretrained(folder)"
            ) from error
        self._loaded: dict[str, Any] = {}
        self._seed = self._step = self.tokens_seen = 0
        self._model: Any = None
        self._optimizer: Any = None

    @property
    def model(self) -> Any:
        """The one in training. Raises StateError before `reset`."""
        if self._model is None:
            raise StateError("nothing is in training; call reset(seed) first")
        return self._model

    def base_of(self, seed: int) -> str:
        """The base that a trajectory of this seed starts from."""
        return self.recipe.bases[int(np.random.default_rng([seed, 1]).integers(len(self.recipe.bases)))]

    def reset(self, seed: int) -> None:
        """Start with an untrained copy of a base, a new optimizer, and the data in the seed's order."""
        self._begin(seed)
        self._windows.reset(seed)

    def step(self, rho: Floats) -> int:
        """Train on a mixture, shape [N]; returns the tokens seen since `reset`. Raises DataError for a bad mixture."""
        shares = np.asarray(rho, dtype=np.float64)
        if shares.shape != (len(self.domains),) or not (shares >= 0).all() or not abs(float(shares.sum()) - 1) < 1e-3:
            raise DataError(
                f"a mixture is {len(self.domains)} shares ({', '.join(self.domains)}), none negative, that sum to 1; "
                f"not {shares.tolist()}"
            )
        recipe, model = self.recipe, self.model
        self._step += 1
        vocabulary = model.get_input_embeddings().num_embeddings
        windows: Any = torch.from_numpy(
            self._windows.take(shares, recipe.updates * recipe.rows, step=self._step, vocabulary=vocabulary)
        )
        model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((self._seed, self._step)) & 0x7FFFFFFF)  # dropout's, where a model has any
            for batch in windows.split(recipe.rows):
                model(input_ids=batch, labels=batch).loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
                self._optimizer.step()
                self._optimizer.zero_grad()
        self.tokens_seen += windows.numel()
        return self.tokens_seen

    def state(self) -> bytes:
        """Weights, the optimizer's state, and the position in each domain."""
        buffer = io.BytesIO()
        torch.save(
            {
                "seed": self._seed,
                "step": self._step,
                "tokens_seen": self.tokens_seen,
                "taken": self._windows.taken,
                "model": self.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
            },
            buffer,
        )
        return buffer.getvalue()

    def resume(self, state: bytes) -> None:
        """Continue from a state. Raises StateError for one that is not of this recipe."""
        try:
            found = torch.load(io.BytesIO(state), weights_only=True)
            self._begin(found["seed"])
            self._model.load_state_dict(found["model"])
            self._optimizer.load_state_dict(found["optimizer"])
            self._step, self.tokens_seen = found["step"], found["tokens_seen"]
            self._windows.reset(found["seed"], found["taken"])
        except (RuntimeError, ValueError, KeyError, EOFError) as error:
            raise StateError(f"a trainer cannot go on from what was kept: {str(error).splitlines()[0]}") from error

    def _begin(self, seed: int) -> None:
        base = self.base_of(seed)
        if base not in self._loaded:
            self._loaded[base] = _load(base, self.recipe.seed)
        self._model = copy.deepcopy(self._loaded[base])
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), lr=self.recipe.rate, weight_decay=self.recipe.decay
        )
        self._seed, self._step, self.tokens_seen = seed, 0, 0


def check_bases(recipe: Recipe) -> None:
    """Raises CheckpointError for a base that is no model folder, or whose weights would be ignored, so that it would silently start from
    random ones.
    """
    for base in recipe.bases:
        folder = Path(base)
        if (folder / "adapter_config.json").exists():
            raise CheckpointError(
                f"{base} is an adapter, and a base is a whole model; merge it into its own base first "
                f"(peft's merge_and_unload, then save_pretrained)"
            )
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"no config.json in {base}: a base is a model folder on this machine; check the path, or download the model first "
                f"(hf download NAME --local-dir FOLDER)"
            )
        read_json(folder / "config.json")
        files = weight_files(folder)
        for file in files:
            read_header(file)
        if not files and (foreign := foreign_format(folder)) is not None:
            raise CheckpointError(f"weights of {base} would not be read: {foreign}")
        unread = sorted({path.name for pattern in UNREAD for path in folder.glob(pattern)})
        if not files and unread:
            raise CheckpointError(
                f"weights of {base} are in {unread[0]} and not in {SINGLE} or the shards of an index; convert them "
                f"with save_pretrained, or remove them to start from drawn weights"
            )


def _load(base: str, seed: int) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        if weight_files(Path(base)):
            return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base), dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot start from {base}: {str(error).splitlines()[0]}") from error
