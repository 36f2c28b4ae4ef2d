"""Opening a checkpoint: identify its weights first, load model and tokenizer only when something asks for them."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.checkpoints.answering import answering_digest, files_digest, note_on, template_files
from harness.checkpoints.fingerprint import (
    ADAPTER,
    adapter_fingerprint,
    code_digest,
    code_files,
    content_files,
    full_fingerprint,
    model_type,
    read_json,
    tokenizer_files,
    tokenizer_files_digest,
    weight_files,
)
from harness.checkpoints.finite import first_non_finite
from harness.checkpoints.hub import fetch, looks_like_hub_id
from harness.checkpoints.open_checkpoint import OpenCheckpoint
from harness.checkpoints.read_ahead import read_ahead
from harness.core.checkpoint import Checkpoint
from harness.core.digest import digest_json
from harness.core.endpoint import Endpoint
from harness.core.errors import CheckpointError
from harness.core.file_identity import Identities, first_changed, identities
from harness.core.serving import Servable, ServeSettings
from harness.core.template_trial import endless
from harness.core.vector import CheckpointRecord

if TYPE_CHECKING:
    from harness.engines.models.shelf import Shelf
    from harness.engines.vllm.checkpoint_server import CheckpointServer


class Tokenizer(NamedTuple):
    """A loaded tokenizer and its identity. `note`: what a reader of numbers under it should know."""

    tokenizer: Any
    identity: str
    note: str | None = None


def _settings(folder: Path) -> dict[str, Any]:
    """A model's configuration but for its own name: class, type, version and more of it decide how a tokenizer is read."""
    try:
        config = read_json(folder / "config.json")
    except CheckpointError:
        return {}
    return {key: value for key, value in config.items() if key != "_name_or_path"}


class _Identified(NamedTuple):
    """The checkpoint that was identified last, and the files that it was identified by, as they were then."""

    checkpoint: Checkpoint
    fingerprint: str
    files: Identities


class Opener:
    """Opens checkpoints with one set of options; keeps what the next one can use: the model, tokenizers, bases, the server.

    `serve` says how they are served, `log_folder` where the server's logs go (a temporary folder by default).
    """

    def __init__(
        self,
        *,
        dtype: str,
        device: str,
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        serve: ServeSettings | None = None,
        log_folder: Path | None = None,
    ) -> None:
        self.dtype = dtype
        self.device = device
        self.trust_remote_code = trust_remote_code
        self.allow_pickle = allow_pickle
        self.settings = serve or ServeSettings()
        self.log_folder = log_folder
        self.server: CheckpointServer | None = None
        self._server_lock = threading.Lock()
        self._servable: tuple[tuple[Path, str | None], Servable] | None = None
        self._identified: _Identified | None = None
        self._non_finite: dict[str, str | None] = {}
        """Weights that were looked through, and the first of them that is not finite."""
        self.shelf: Shelf | None = None
        self._following: list[Path] = []
        self._tokenizer: tuple[Identities, Tokenizer] | None = None
        self._alike: dict[str, Tokenizer] = {}
        """The tokenizer loaded last, by what its files hold: checkpoints of a training have the same one each."""
        self._bases: dict[str, Path] = {}
        self._base_fingerprint: tuple[Path, Identities, str] | None = None

    def check(self, *, served: bool = False) -> None:
        """Refuse a device that is not there, and where checkpoints are to be served what of `serve` cannot do. Raises SpecError."""
        from harness.engines.models.load import choose_device

        choose_device(self.device)
        if served:
            from harness.engines.vllm.settings import check_settings

            check_settings(self.settings)

    @staticmethod
    def fix_products(stored: str | None) -> str:
        """Which library multiplies on a CPU from here on: as the run folder stored it, or as is found now. Raises StateError."""
        from harness.engines.scoring.products import fix_products

        return fix_products(stored)

    def identify(self, checkpoint: Checkpoint) -> CheckpointRecord:
        """Who this is, by weights and tokenizer. Raises CheckpointError for what cannot be scored."""
        if checkpoint.problem:
            raise CheckpointError(checkpoint.problem)
        files = identities(self._files(checkpoint))
        if checkpoint.kind == "lora":
            fingerprint = adapter_fingerprint(checkpoint.folder, self._fingerprint_of_base(self._base(checkpoint)))
        else:
            fingerprint = self._full_fingerprint(checkpoint.folder)
        tokenizer = self.load_tokenizer(checkpoint).identity
        self._identified = _Identified(checkpoint, fingerprint, files)
        self._servable = None
        self.check_unchanged(checkpoint)
        return self.record(checkpoint, fingerprint=fingerprint, tokenizer=tokenizer)

    def _full_fingerprint(self, folder: Path) -> str:
        return full_fingerprint(folder, allow_pickle=self.allow_pickle, code=self.trust_remote_code)

    def _fingerprint_of_base(self, base: Path) -> str:
        """Computed once for as long as the base's files stay what they are."""
        known = self._base_fingerprint
        if known is None or known[0] != base or first_changed(known[1]):
            files = identities(content_files(base))
            self._base_fingerprint = known = base, files, self._full_fingerprint(base)
        return known[2]

    def _files(self, checkpoint: Checkpoint) -> list[Path]:
        """Every file that decides what is scored."""
        base = [*content_files(self._base(checkpoint))] if checkpoint.kind == "lora" else []
        return [*content_files(checkpoint.folder), *template_files(self._tokenizer_folder(checkpoint)), *base]

    def check_unchanged(self, checkpoint: Checkpoint) -> None:
        """Whether the files still are those that were identified. Raises CheckpointError."""
        known = self._identified
        if known is None or known.checkpoint != checkpoint or first_changed(known.files) is None:
            return
        changed = first_changed(known.files, but_for_links=True)
        if changed is None:  # a hard link was made, say by a trainer that keeps the best: the content tells
            self._identified, self._base_fingerprint = None, None
            same = self.identify(checkpoint).fingerprint == known.fingerprint
            changed = None if same else checkpoint.folder
        if changed is not None:
            raise CheckpointError(
                f"{changed} was written to or replaced while {checkpoint.label} was measured, so it is not known which "
                "weights a score would be of; wait until it is complete and run again with --retry-failed"
            )

    @staticmethod
    def record(
        checkpoint: Checkpoint, *, fingerprint: str | None = None, tokenizer: str | None = None
    ) -> CheckpointRecord:
        """The checkpoint as a vector names it."""
        return CheckpointRecord(
            path=checkpoint.label,
            kind=checkpoint.kind,
            base=checkpoint.base,
            revision=checkpoint.revision,
            fingerprint=fingerprint,
            tokenizer=tokenizer,
            tokens_seen=checkpoint.tokens_seen,
        )

    @contextlib.contextmanager
    def open(self, checkpoint: Checkpoint) -> Iterator[OpenCheckpoint]:
        """The checkpoint as a Subject, until the next one is opened."""
        opened = OpenCheckpoint(self, checkpoint)
        try:
            yield opened
        finally:
            opened.close()

    def dry_load(self, checkpoint: Checkpoint) -> None:
        """Refuse what loading the model, of an adapter its base, would refuse by names and shapes. Raises CheckpointError."""
        from harness.engines.models.dry_load import dry_load

        folder = self._base(checkpoint) if checkpoint.kind == "lora" else checkpoint.folder
        dry_load(folder, weight_files(folder), trust_remote_code=self.trust_remote_code)

    def weights(self, checkpoint: Checkpoint) -> list[Path]:
        """The safetensors files that it is made of; of an adapter its base's and its own. Raises CheckpointError."""
        if checkpoint.kind == "lora":
            return [*weight_files(self._base(checkpoint)), checkpoint.folder / ADAPTER]
        return weight_files(checkpoint.folder)

    def load_model(self, checkpoint: Checkpoint) -> Any:
        """The model with its adapter, if it has one; good until the next call. Raises CheckpointError or EngineError."""
        from harness.engines.models.load import choose_device
        from harness.engines.models.shelf import Shelf

        if self.shelf is None:
            self.shelf = Shelf(
                dtype=self.dtype,
                device=choose_device(self.device),
                trust_remote_code=self.trust_remote_code,
                allow_pickle=self.allow_pickle,
            )
        self.check_unchanged(checkpoint)
        if checkpoint.kind == "lora":
            base = self._base(checkpoint)
            model = self.shelf.adapted(base, weight_files(base), checkpoint.folder)
            self.check_unchanged(checkpoint)
            return model
        following, self._following = self._following, []
        files = weight_files(checkpoint.folder)
        model = self.shelf.full(checkpoint.folder, files)
        self.check_unchanged(checkpoint)
        if following != files:
            self.shelf.expect(following)
        return model

    def expect(self, checkpoint: Checkpoint) -> None:
        """This one comes next: the system may read its weights from disk, and once the one before is loaded, a GPU's shelf."""
        self._following = []
        with contextlib.suppress(CheckpointError):
            files = weight_files(checkpoint.folder)
            read_ahead(files)
            self._following = files

    def serve(self, checkpoint: Checkpoint, logprobs: Callable[[Sequence[int]], list[float]] | None = None) -> Endpoint:
        """Put the checkpoint on the server; `logprobs` gives its own, to compare. Callable from any thread.

        Raises SpecError, CheckpointError or EngineError.
        """
        with self._server_lock:
            key = checkpoint.folder, checkpoint.base
            if self._servable is None or self._servable[0] != key:
                self._servable = key, self.servable(checkpoint, logprobs)
            servable = self._servable[1]
            server = self._checkpoint_server(checkpoint)
        return server.endpoint(servable)

    def servable(
        self, checkpoint: Checkpoint, logprobs: Callable[[Sequence[int]], list[float]] | None = None
    ) -> Servable:
        """The checkpoint as a server needs it. Raises CheckpointError."""
        if checkpoint.kind == "live":
            raise CheckpointError("a live model has no folder to be served from; save it first")
        if self._identified is None or self._identified.checkpoint != checkpoint:
            self.identify(checkpoint)
        assert self._identified is not None
        fingerprint = self._identified.fingerprint
        lora = checkpoint.kind == "lora"
        model = self._base(checkpoint) if lora else checkpoint.folder
        tokenizer = self._tokenizer_folder(checkpoint)
        digest = files_digest(tokenizer)
        if tokenizer != model and digest == files_digest(model):
            tokenizer = model
        model_fingerprint = self._fingerprint_of_base(model) if lora else fingerprint
        self._check_finite(checkpoint, model, fingerprint=fingerprint, model_fingerprint=model_fingerprint)
        note = note_on(model)
        return Servable(
            label=checkpoint.label,
            kind=checkpoint.kind,
            model=model.absolute(),
            adapter=checkpoint.folder.absolute() if lora else None,
            fingerprint=fingerprint,
            model_fingerprint=model_fingerprint,
            tokenizer=tokenizer.absolute(),
            tokenizer_digest=digest,
            logprobs=logprobs,
            render=self._renderer(checkpoint),
            notes=(note,) if note else (),
        )

    def answering(self, checkpoint: Checkpoint) -> str | None:
        """What changes a served checkpoint's answers beside weights and tokenizer, as a digest; None where nothing does.

        Raises CheckpointError.
        """
        model = self._base(checkpoint) if checkpoint.kind == "lora" else checkpoint.folder
        return answering_digest(model, self._tokenizer_folder(checkpoint))

    def _check_finite(self, checkpoint: Checkpoint, model: Path, *, fingerprint: str, model_fingerprint: str) -> None:
        """Refuse NaN and infinity anywhere in saved weights: a few probed tokens need not meet them. Raises CheckpointError."""
        folders = {model_fingerprint: model, fingerprint: checkpoint.folder}
        for digest, folder in folders.items():
            if digest not in self._non_finite:
                files = weight_files(folder) if folder == model else [folder / ADAPTER]
                self._non_finite[digest] = first_non_finite(files) if files else self._in_memory(checkpoint)
            weight = self._non_finite[digest]
            if weight is not None:
                raise CheckpointError(
                    f"{checkpoint.label} gives log-probs that are not finite: its weight {weight} holds NaN or infinity; the "
                    "checkpoint is broken, and is not served"
                )

    def _in_memory(self, checkpoint: Checkpoint) -> str | None:
        """The first weight of a pickled checkpoint that is not finite."""
        from harness.engines.models.load import first_non_finite as first_of

        return first_of(self.load_model(checkpoint))

    def _renderer(self, checkpoint: Checkpoint) -> Callable[..., list[int]]:
        """Token ids of a conversation by the checkpoint's own tokenizer and template, or by the one that the settings name."""

        def render(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[int]:
            given = self.settings.chat_template
            template = None if given is None else Path(given).read_text(encoding="utf-8")
            tokenizer = self.load_tokenizer(checkpoint).tokenizer
            self._check_template(checkpoint, template or tokenizer.chat_template)
            text = tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] or None,
                chat_template=template,
                add_generation_prompt=True,
                tokenize=False,
            )
            ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
            return ids

        return render

    def find_server(self) -> str:
        """The server in words: the command that would be started, or what the user's own has. Raises HarnessError."""
        from harness.engines.vllm.settings import check_settings, key_of

        command = check_settings(self.settings)
        if self.settings.url is None:
            return str(command)
        from harness.engines.vllm.api import Api

        api = Api(self.settings.url.rstrip("/").removesuffix("/v1"), api_key=key_of(self.settings))
        names = ", ".join(str(model["id"]) for model in api.models())
        return f"{self.settings.url} answers and has {names or 'no model'}"

    def tool_parser(self, checkpoint: Checkpoint) -> str | None:
        """vLLM's name of the parser that would read the checkpoint's tool calls; None for none."""
        from harness.engines.vllm.tool_parser import chat_template, choose_parser

        given = self.settings.chat_template
        template = (
            Path(given).read_text(encoding="utf-8") if given else chat_template(self._tokenizer_folder(checkpoint))
        )
        folder = self._base(checkpoint) if checkpoint.kind == "lora" else checkpoint.folder
        return choose_parser(template, model_type(folder))

    def check_served(self, checkpoint: Checkpoint, *, chats: bool, calls: bool) -> None:
        """Refuse what a server could not serve as it is to be asked, without starting one. `chats`: through a chat template;
        `calls`: with tool calls that have to be read. Raises HarnessError.
        """
        if self.settings.url is not None:
            return
        if checkpoint.kind == "lora":
            from harness.engines.vllm.loadable import check_adapter

            check_adapter(checkpoint.folder)
        given = self.settings.chat_template
        template = Path(given).read_text(encoding="utf-8") if given else None
        if chats:
            template = template or self.load_tokenizer(checkpoint).tokenizer.chat_template
            self._check_template(checkpoint, template)
        if chats and not template:
            raise CheckpointError(
                f"no chat template in {self._tokenizer_folder(checkpoint)}, and it is asked through one; name one with "
                "serve.chat_template"
            )
        if (
            calls
            and self.settings.tool_call_parser is None
            and not self._parser_given()
            and not self.tool_parser(checkpoint)
        ):
            raise CheckpointError(
                f"none of vLLM's tool parsers is known for {checkpoint.label}, and its calls have to be read; name one with "
                "serve.tool_call_parser"
            )

    def _check_template(self, checkpoint: Checkpoint, template: Any) -> None:
        """Refuse a chat template that would take all memory or no end of time. Raises CheckpointError."""
        if why := endless(template):
            where = self.settings.chat_template or self._tokenizer_folder(checkpoint)
            raise CheckpointError(f"{why} ({where}), so nothing is rendered with it")

    def _parser_given(self) -> bool:
        from harness.engines.vllm.command import value_of

        return value_of(self.settings.args, "--tool-call-parser") is not None

    def n_restarts(self, checkpoint: Checkpoint) -> int:
        """How often its server had to be started again while this checkpoint was on it."""
        known = self._servable
        if self.server is None or known is None or known[0] != (checkpoint.folder, checkpoint.base):
            return 0
        return self.server.n_restarts(known[1])

    def _checkpoint_server(self, checkpoint: Checkpoint) -> CheckpointServer:
        from harness.engines.vllm.checkpoint_server import CheckpointServer
        from harness.engines.vllm.gpu_memory import share_beside

        if self.server is None:
            share = None
            if self.settings.verify and self.settings.url is None:
                from harness.engines.models.load import choose_device

                # What the model in this process still takes of the GPU, where it is not loaded yet.
                weights = 0 if self.shelf else sum(path.stat().st_size for path in self.weights(checkpoint))
                share = share_beside(str(choose_device(self.device)), needed=weights)
            self.server = CheckpointServer(
                self.settings,
                log_folder=self.log_folder or Path(tempfile.mkdtemp(prefix="harness-vllm-")),
                dtype=self.dtype,
                gpu_memory_utilization=share,
                trust_remote_code=self.trust_remote_code,
            )
        return self.server

    def close(self) -> None:
        """End the server, if there is one, and give the memory of the kept model back."""
        if self.server is not None:
            self.server.close()
        if self.shelf is not None:
            self.shelf.clear()

    def load_tokenizer(self, checkpoint: Checkpoint) -> Tokenizer:
        """The tokenizer beside the weights; the same files are loaded once. Raises CheckpointError."""
        from harness.engines.models.load import load_tokenizer
        from harness.engines.models.tokenizer_identity import probe_ids, tokenizer_digest

        folder = self._tokenizer_folder(checkpoint)
        own = checkpoint.kind == "lora" and folder == checkpoint.folder
        # transformers lets the model's configuration decide what class, and with it what rules, a tokenizer gets.
        config = self._base(checkpoint) if own else folder
        code = code_files(folder) if self.trust_remote_code else []
        paths = [*tokenizer_files(folder), config / "config.json", *(tokenizer_files(config) if own else ()), *code]
        files = identities(paths)
        if self._tokenizer is not None and self._tokenizer[0] == files:
            return self._tokenizer[1]
        contents = digest_json(
            [tokenizer_files_digest(folder), _settings(config), tokenizer_files_digest(config), code_digest(code)]
        )
        found = self._alike.get(contents)
        if found is None:
            tokenizer = load_tokenizer(folder, config=config, trust_remote_code=self.trust_remote_code)
            note = None
            if own and any((config / path.name).exists() for path in tokenizer_files(folder)):
                bases = load_tokenizer(config, trust_remote_code=self.trust_remote_code)
                if probe_ids(bases) != probe_ids(tokenizer):
                    note = "the adapter's tokenizer gives other ids than its base's"
            found = Tokenizer(tokenizer, tokenizer_digest(tokenizer), note)
        self._alike = {contents: found}
        self._tokenizer = files, found
        return found

    def _tokenizer_folder(self, checkpoint: Checkpoint) -> Path:
        own = checkpoint.folder
        if checkpoint.kind == "lora" and not any(
            (own / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")
        ):
            return self._base(checkpoint)
        return own

    def _base(self, checkpoint: Checkpoint) -> Path:
        name = checkpoint.base
        if name is None:
            raise CheckpointError(f"adapter {checkpoint.label} has no base model; pass --base FOLDER")
        if name not in self._bases:
            if looks_like_hub_id(name):
                snapshot = fetch(name, allow_pickle=self.allow_pickle, trust_remote_code=self.trust_remote_code)
                self._bases[name] = snapshot.folder
            elif (Path(name) / "config.json").exists():
                self._bases[name] = Path(name)
            else:
                raise CheckpointError(
                    f"base {name} of adapter {checkpoint.label} is not a model folder; pass --base FOLDER"
                )
        return self._bases[name]
