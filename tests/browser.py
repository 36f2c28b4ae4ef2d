"""A real browser for tests: Chromium, driven through chromedriver's W3C WebDriver protocol. Nothing is installed for it.

It has no network of its own to reach: every name resolves to nothing, and what a page asks for is written down.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no browser here; Debian's packages chromium and chromium-driver are one"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004", "ArrowDown": "\ue015", "ArrowRight": "\ue014"}
START_S = 30.0


class Browser:
    """One session."""

    def __init__(self, base: str, session: str) -> None:
        self._session = f"{base}/session/{session}"

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a page from its file, and wait until it says that it is ready. Raises AssertionError with what it says else."""
        self._post("url", {"url": "about:blank"})
        self.requests()  # of the browser's own first page
        self.console()  # of the page before
        self._post("url", {"url": f"{path.resolve().as_uri()}{fragment}"})
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            done = self.run("return [document.documentElement.dataset.ready, document.documentElement.dataset.failed]")
            assert not done[1], done[1]
            if done[0]:
                return
            time.sleep(0.02)
        raise AssertionError(f"{path} is not ready after {START_S} s; its console: {self.console()}")

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str, *arguments: Any) -> Any:
        """What a script hands to its last argument."""
        return self._post("execute/async", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        """The text of the first element that a selector finds."""
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def click(self, selector: str) -> None:
        """Click on the first element, as a person would: it has to be visible and on top."""
        found = self._post("element", {"using": "css selector", "value": selector})
        self._post(f"element/{next(iter(found.values()))}/click", {})

    def press(self, *keys: str) -> None:
        """Press keys one after the other, where the focus is."""
        pressed = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": pressed}]})

    def console(self) -> list[str]:
        """What the console got since it was asked last."""
        return [entry["message"] for entry in self._post("se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Addresses that were asked for since this was asked last, the pages themselves among them."""
        events = [json.loads(entry["message"])["message"] for entry in self._post("se/log", {"type": "performance"})]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def media(self, *, media: str = "", **features: str) -> None:
        """What the page is told of the user's wishes, such as prefers_color_scheme="dark", and what it is shown on ("print")."""
        wishes = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self._post(
            "goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"media": media, "features": wishes}}
        )

    def size(self, width: int, height: int) -> None:
        """The window's size in pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._post("goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics})

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """What is seen, as PNG; `whole`: also what is above and below."""
        params = {"format": "png", "captureBeyondViewport": whole}
        shot = self._post("goog/cdp/execute", {"cmd": "Page.captureScreenshot", "params": params})
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(self._session, method="DELETE"), timeout=10).close()

    def _post(self, what: str, value: Any) -> Any:
        return post(f"{self._session}/{what}", value)


def post(url: str, value: Any) -> Any:
    """One command. Raises AssertionError with the driver's message."""
    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(json.loads(error.read())["value"]["message"]) from error


@contextlib.contextmanager
def browser(*, width: int = 1400, height: int = 900) -> Iterator[Browser]:
    """A browser with a profile of its own, which is gone afterwards."""
    assert CHROMIUM is not None and DRIVER is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    profile = tempfile.mkdtemp(prefix="harness-browser-")
    driver = subprocess.Popen(
        [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    opened = None
    try:
        base = f"http://127.0.0.1:{port}"
        _wait(base)
        flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        options = {"binary": CHROMIUM, "args": flags}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        made = post(f"{base}/session", {"capabilities": {"alwaysMatch": wanted}})
        opened = Browser(base, made["sessionId"])
        yield opened
    finally:
        if opened is not None:
            opened.close()
        driver.terminate()
        driver.wait(timeout=20)
        shutil.rmtree(profile, ignore_errors=True)


def _wait(base: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/status", timeout=2) as response:
            if json.loads(response.read())["value"]["ready"]:
                return
        time.sleep(0.05)
    raise AssertionError(f"chromedriver does not answer after {START_S} s")
