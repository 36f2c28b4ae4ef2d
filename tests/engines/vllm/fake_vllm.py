"""A program that behaves like `vllm serve` towards its starter, within milliseconds: for the tests of whoever starts and swaps.

Its "weights" are a number in DIR/weights.json. $FAKE, a JSON object, says how it misbehaves.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAKE: dict[str, Any] = json.loads(os.environ.get("FAKE", "{}"))
ARGS = sys.argv[1:]


def value(option: str, default: str = "") -> str:
    return ARGS[ARGS.index(option) + 1] if option in ARGS else default


def weights(folder: str) -> float:
    return float(json.loads((Path(folder) / "weights.json").read_text()))


def logprobs(number: float, ids: list[int]) -> list[float]:
    return [-0.1 - ((number * 31 + sum(ids[: i + 1])) % 97) / 10 for i in range(1, len(ids))]


def template() -> str:
    """The "chat template" that a server reads when it starts."""
    path = Path(value("--tokenizer", ARGS[1])) / "template.txt"
    return path.read_text() if path.exists() else ""


def rendered(text: str, messages: Any, tools: Any) -> list[int]:
    """Its prompt of a conversation."""
    contents = [text, *("".join(map(str, (m["role"], m["content"]))) for m in messages), str(len(tools or []))]
    return list("|".join(contents).encode())


def sampling() -> dict[str, Any]:
    path = Path(ARGS[1]) / "generation_config.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


class State:
    """What is loaded."""

    template = template()
    sampling = sampling()
    paused = False
    model = ARGS[1]
    loaded = weights(ARGS[1])
    adapters: dict[str, float] = {}
    n_requests = 0


class Handler(BaseHTTPRequestHandler):
    """The endpoints that a starter asks."""

    def do_GET(self) -> None:
        if self.path == "/health":
            if Path(FAKE.get("busy while", "/nowhere")).exists():
                time.sleep(600)
            self.say(503 if FAKE.get("sick") else 200, None)
        elif self.path == "/is_sleeping" and os.environ.get("VLLM_SERVER_DEV_MODE") == "1":
            if Path(FAKE.get("hangs while", "/nowhere")).exists():
                time.sleep(600)
            self.say(200, {"is_sleeping": False})
        elif self.path == "/version":
            self.say(200, {"version": "fake"})
        elif self.allowed():
            name = value("--served-model-name")
            entries = [{"id": name, "root": State.model, "max_model_len": 64}]
            self.say(200, {"data": [*entries, *({"id": a, "parent": name} for a in State.adapters)]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        if self.path == "/collective_rpc" and os.environ.get("VLLM_SERVER_DEV_MODE") == "1":
            if FAKE.get("pauses") and not State.paused:
                self.say(500, {"error": {"message": "not paused"}})
                return
            if FAKE.get("reload") == "fails":
                self.say(500, {"error": {"message": "no"}})
                return
            if FAKE.get("reload") != "does nothing":
                State.loaded = weights(body["kwargs"]["weights_path"])
            self.say(200, {"results": [None]})
        elif FAKE.get("pauses") and self.path.split("?")[0] in ("/pause", "/resume"):
            State.paused = self.path.startswith("/pause")
            self.say(200, {})
        elif self.path == "/tokenize":
            self.say(200, {"tokens": rendered(State.template, body["messages"], body.get("tools"))})
        elif self.path.startswith("/reset_prefix_cache"):
            self.say(200, {"success": True})
        elif self.path == "/v1/load_lora_adapter" and self.allowed():
            State.adapters[body["lora_name"]] = weights(body["lora_path"])
            self.say(200, None)
        elif self.path == "/v1/unload_lora_adapter" and self.allowed():
            del State.adapters[body["lora_name"]]
            self.say(200, None)
        elif self.path == "/v1/chat/completions" and self.allowed():
            number = State.adapters.get(body["model"], State.loaded)
            message = {"role": "assistant", "content": f"{State.sampling.get('says', 'plain')} {number:g}"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            self.say(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})
        elif self.path == "/v1/completions" and self.allowed():
            State.n_requests += 1
            if State.n_requests == FAKE.get("dies at request"):
                print("RuntimeError: the engine broke on purpose", file=sys.stderr, flush=True)
                os._exit(1)
            if not body.get("echo"):
                with Path(FAKE["answers"]).open("a") as asked:
                    asked.write("x")
                choice = {"text": str(State.sampling.get("says", "plain")), "finish_reason": "stop"}
                likely = {"logprobs": {"token_logprobs": FAKE.get("likely", [-0.1])}}
                self.say(200, {"choices": [{**choice, **(likely if "logprobs" in body else {})}], "usage": {}})
                return
            number = State.adapters.get(body["model"], State.loaded)
            values = [None, *logprobs(number, body["prompt"]), -1.0]
            if number < 0:
                self.say(400, {"error": {"message": "Out of range float values are not JSON compliant: nan"}})
            else:
                self.say(200, {"choices": [{"logprobs": {"token_logprobs": values}}]})
        else:
            self.say(404, {"detail": "Not Found"})

    def allowed(self) -> bool:
        key = os.environ.get("VLLM_API_KEY")
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            self.say(401, {"error": f"Unauthorized: {self.headers.get('Authorization')}"})
            return False
        return True

    def say(self, status: int, body: Any) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    if unknown := [option for option in FAKE.get("unknown", ()) if option in ARGS]:
        sys.exit(f"vllm: error: unrecognized arguments: {' '.join(unknown)}")
    if text := FAKE.get("dies"):
        sys.exit(text)
    if counter := FAKE.get("port taken until"):
        path = Path(counter["file"])
        path.write_text(path.read_text() + "x" if path.exists() else "x")
        if len(path.read_text()) < counter["times"]:
            sys.exit("OSError: [Errno 98] Address already in use")
    print("config: dtype=torch.float32, device_config=cpu", flush=True)
    if FAKE.get("hangs"):
        time.sleep(600)
    ThreadingHTTPServer((value("--host"), int(value("--port"))), Handler).serve_forever()
