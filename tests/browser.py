"""A headless Chromium, driven by the DevTools protocol over a pipe; and a plain static server."""

import base64
import contextlib
import functools
import http.server
import json
import os
import select
import shutil
import subprocess
import threading
import time
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60  # seconds, on a busy machine


class Browser:
    """One Chromium with one page.

    Attributes:
      requests: addresses of all that pages asked the network for.
      failures: `url: reason` of requests that were refused or not answered.
      console: what pages wrote there, and what the browser said about them.
    """

    def __init__(self, profile: Path):
        self.requests, self.failures, self.console = [], [], []
        self._addresses, self._buffer, self._answers, self._number = {}, b"", {}, 0
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        flags = [
            "--headless=new",
            "--no-sandbox",  # in a container
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        # Chromium reads commands from 3 and writes answers to 4
        pipes = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", pipes, CHROMIUM, *flags],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session = None
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        rights = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        self.call("Browser.grantPermissions", permissions=rights)
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # the clipboard asks for it

    def close(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self.call("Browser.close")
        os.close(self._write)
        self._process.wait(PATIENCE)
        os.close(self._read)

    def call(self, method: str, **params):
        """Sends a command and returns its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        self._send(json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while self._number not in self._answers:
            self._receive(deadline)
        answer = self._answers.pop(self._number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _send(self, message: bytes) -> None:
        while message:  # a full pipe takes a part
            message = message[os.write(self._write, message) :]

    def _receive(self, deadline: float) -> None:
        if not select.select([self._read], [], [], max(0, deadline - time.monotonic()))[0]:
            raise TimeoutError("the browser does not answer")
        received = os.read(self._read, 1 << 20)
        if not received:
            raise EOFError("the browser is gone")
        *messages, self._buffer = (self._buffer + received).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._note(message["method"], message["params"])

    def _note(self, event: str, params: dict) -> None:
        if event == "Network.requestWillBeSent":
            address = params["request"]["url"]
            self._addresses[params["requestId"]] = address
            self.requests.append(address)
        elif event == "Network.webSocketCreated":
            self.requests.append(params["url"])
        elif event == "Network.loadingFailed":
            reason = params.get("blockedReason") or params["errorText"]
            self.failures.append(f"{self._addresses.get(params['requestId'])}: {reason}")
        elif event == "Log.entryAdded":
            self.console.append(params["entry"]["text"])
        elif event == "Runtime.consoleAPICalled":
            self.console += [str(arg.get("value", arg)) for arg in params["args"]]
        elif event == "Runtime.exceptionThrown":
            self.console.append(str(params["exceptionDetails"]))

    def open(
        self,
        address: str,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        forget: bool = True,
    ):
        """Opens an address in a window of this size.

        Args:
          forget: what was kept of an earlier visit is gone.
        """
        if forget and address.startswith("http"):
            origin = "/".join(address.split("/")[:3])
            self.call("Storage.clearDataForOrigin", origin=origin, storageTypes="all")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        for seen in (self.requests, self.failures, self.console):
            seen.clear()
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def run(self, expression: str):
        """The value of a JavaScript expression in the page, awaited where it is a promise."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
            allowUnsafeEvalBlockedByCSP=False,  # the page's policy is part of what is tested
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]["exception"].get("description")))
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Waits until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{condition} is not true; the console says {self.console}")
            time.sleep(0.02)

    def paste(self, field: str, text: str) -> None:
        """Pastes a text into a field, in place of what is there."""
        self.run(f"navigator.clipboard.writeText({json.dumps(text)})")
        self.run(f"document.querySelector({json.dumps(field)}).select()")
        self.call("Input.dispatchKeyEvent", type="keyDown", key="v", commands=["paste"])

    def press(self, key: str, code: int) -> None:
        text = "\r" if key == "Enter" else ""
        details = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **details)
        self.call("Input.dispatchKeyEvent", type="keyUp", **details)

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path):
    """Serves a folder as `python -m http.server` does; yields its address, with a slash."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
