"""Checkpoints on a server: what a server needs of one, what can be checked before it is started, and loading it there."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints.answering import answering_digest, files_digest, note_on
from harness.checkpoints.bases import Bases
from harness.checkpoints.fingerprint import ADAPTER, model_type, weight_files
from harness.checkpoints.finite import first_non_finite
from harness.checkpoints.identify import Identifier
from harness.checkpoints.models import Models
from harness.checkpoints.tokenizers import Tokenizers
from harness.core.checkpoint import Checkpoint
from harness.core.endpoint import Endpoint
from harness.core.errors import CheckpointError
from harness.core.opening import OpenOptions
from harness.core.serving import Servable
from harness.core.template_trial import endless
from harness.core.thoughts import opens_thought

if TYPE_CHECKING:
    from harness.engines.vllm.checkpoint_server import CheckpointServer


class Serving:
    """One server for the checkpoints of a sweep, or the user's own. `log_folder`: of the server's logs."""

    def __init__(
        self,
        options: OpenOptions,
        *,
        bases: Bases,
        tokenizers: Tokenizers,
        identifier: Identifier,
        models: Models,
        log_folder: Path | None,
    ) -> None:
        self._options = options
        self._bases = bases
        self._tokenizers = tokenizers
        self._identifier = identifier
        self._models = models
        self.log_folder = log_folder
        self.server: CheckpointServer | None = None
        self._server_lock = threading.Lock()
        self._servable: tuple[tuple[Path, str | None, int], Servable] | None = None
        self._non_finite: dict[str, str | None] = {}
        """Fingerprint of weights that were checked -> the first tensor with NaN or infinity, None if there is none."""

    def put(self, checkpoint: Checkpoint, logprobs: Callable[[Sequence[int]], list[float]] | None = None) -> Endpoint:
        """Load the checkpoint on the server; `logprobs` gives its in-process log-probs, to compare. Callable from any thread.

        Raises SpecError, CheckpointError or EngineError.
        """
        with self._server_lock:
            self._identifier.fingerprint(checkpoint)
            key = checkpoint.folder, checkpoint.base, self._identifier.n_identified
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
        fingerprint = self._identifier.fingerprint(checkpoint)
        lora = checkpoint.kind == "lora"
        model = self._bases.model_folder(checkpoint)
        tokenizer = self._bases.tokenizer_folder(checkpoint)
        digest = files_digest(tokenizer)
        if tokenizer != model and digest == files_digest(model):
            tokenizer = model
        model_fingerprint = self._identifier.fingerprint_of_base(model) if lora else fingerprint
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
            opens_thought=self._opens_thought(checkpoint),
        )

    def answering(self, checkpoint: Checkpoint) -> str | None:
        """What changes a served checkpoint's answers besides weights and tokenizer, as a digest; None where nothing does.

        Raises CheckpointError.
        """
        model = self._bases.model_folder(checkpoint)
        return answering_digest(model, self._bases.tokenizer_folder(checkpoint))

    def n_restarts(self, checkpoint: Checkpoint) -> int:
        """How often its server was restarted while this checkpoint was on it."""
        known = self._servable
        if self.server is None or known is None or known[0][:2] != (checkpoint.folder, checkpoint.base):
            return 0
        return self.server.n_restarts(known[1])

    def find_server(self) -> str:
        """For a message: the command that would be started, or the models of the user's own server. Raises HarnessError."""
        from harness.engines.vllm.settings import check_settings, key_of

        command = check_settings(self._options.serve)
        if self._options.serve.url is None:
            return str(command)
        from harness.engines.vllm.api import Api

        api = Api(self._options.serve.url.rstrip("/").removesuffix("/v1"), api_key=key_of(self._options.serve))
        names = ", ".join(str(model["id"]) for model in api.models())
        return f"{self._options.serve.url} answers and has {names or 'no model'}"

    def tool_parser(self, checkpoint: Checkpoint) -> str | None:
        """vLLM's name of the parser that would read the checkpoint's tool calls; None for none."""
        from harness.engines.vllm.tool_parser import chat_template, choose_parser

        given = self._options.serve.chat_template
        template = (
            Path(given).read_text(encoding="utf-8")
            if given
            else chat_template(self._bases.tokenizer_folder(checkpoint))
        )
        folder = self._bases.model_folder(checkpoint)
        return choose_parser(template, model_type(folder))

    def check(self, checkpoint: Checkpoint, *, chats: bool, calls: bool) -> None:
        """Check without starting a server that it can serve the checkpoint. `chats`: requests go through a chat template; `calls`:
        tool calls have to be read from its answers. Raises HarnessError.
        """
        if self._options.serve.url is not None:
            return
        from harness.engines.vllm.loadable import check_adapter, check_length

        if checkpoint.kind == "lora":
            check_adapter(checkpoint.folder)
        check_length(self._bases.model_folder(checkpoint), self._options.serve)
        given = self._options.serve.chat_template
        template = Path(given).read_text(encoding="utf-8") if given else None
        if chats:
            template = template or self._tokenizers.load(checkpoint).tokenizer.chat_template
            self._check_template(checkpoint, template)
        if chats and not template:
            raise CheckpointError(
                f"no chat template in {self._bases.tokenizer_folder(checkpoint)}, and it is asked through one; name one with "
                "serve.chat_template"
            )
        if (
            calls
            and self._options.serve.tool_call_parser is None
            and not self._parser_given()
            and not self.tool_parser(checkpoint)
        ):
            raise CheckpointError(
                f"none of vLLM's tool parsers is known for {checkpoint.label}, and its calls have to be read; name one with "
                "serve.tool_call_parser"
            )

    def _check_finite(self, checkpoint: Checkpoint, model: Path, *, fingerprint: str, model_fingerprint: str) -> None:
        """Refuse NaN and infinity anywhere in the weights, which the few tokens of the probe may not reach.

        Raises CheckpointError.
        """
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

        return first_of(self._models.load(checkpoint))

    def _opens_thought(self, checkpoint: Checkpoint) -> bool:
        """Whether prompts of the chat template end within a thought; False where there is no template that renders one."""
        try:
            return opens_thought(self._rendered(checkpoint, [{"role": "user", "content": "Hello."}], ()))
        except Exception:  # noqa: BLE001 - a template may raise anything; what needs it reports that itself
            return False

    def _renderer(self, checkpoint: Checkpoint) -> Callable[..., list[int]]:
        """Token ids of a conversation by the checkpoint's own tokenizer and template, or by the one that the settings name."""

        def render(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[int]:
            text = self._rendered(checkpoint, messages, tools)
            ids: list[int] = self._tokenizers.load(checkpoint).tokenizer.encode(text, add_special_tokens=False)
            return ids

        return render

    def _rendered(
        self, checkpoint: Checkpoint, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
    ) -> str:
        given = self._options.serve.chat_template
        template = None if given is None else Path(given).read_text(encoding="utf-8")
        tokenizer = self._tokenizers.load(checkpoint).tokenizer
        self._check_template(checkpoint, template or tokenizer.chat_template)
        text: str = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tools=[dict(tool) for tool in tools] or None,
            chat_template=template,
            add_generation_prompt=True,
            tokenize=False,
        )
        return text

    def _check_template(self, checkpoint: Checkpoint, template: Any) -> None:
        """Refuse a chat template that could use unbounded memory or time. Raises CheckpointError."""
        if why := endless(template):
            where = self._options.serve.chat_template or self._bases.tokenizer_folder(checkpoint)
            raise CheckpointError(f"{why} ({where}), so nothing is rendered with it")

    def _parser_given(self) -> bool:
        from harness.engines.vllm.command import value_of

        return value_of(self._options.serve.args, "--tool-call-parser") is not None

    def _checkpoint_server(self, checkpoint: Checkpoint) -> CheckpointServer:
        from harness.engines.vllm.checkpoint_server import CheckpointServer
        from harness.engines.vllm.gpu_memory import share_beside

        if self.server is None:
            share = None
            if self._options.serve.verify and self._options.serve.url is None:
                from harness.engines.models.load import choose_device

                # GPU memory that the model in this process will need, where it is not loaded yet.
                weights = (
                    0 if self._models.shelf else sum(path.stat().st_size for path in self._models.files(checkpoint))
                )
                share = share_beside(str(choose_device(self._options.device)), needed=weights)
            self.server = CheckpointServer(
                self._options.serve,
                log_folder=self.log_folder or Path(tempfile.mkdtemp(prefix="harness-vllm-")),
                dtype=self._options.dtype,
                gpu_memory_utilization=share,
                trust_remote_code=self._options.trust_remote_code,
            )
        return self.server

    def close(self) -> None:
        """End the server, if there is one."""
        if self.server is not None:
            self.server.close()
