"""A vLLM server of the built-in models as a contender. vLLM lives in an environment of its own: SPECTERM_VLLM names its
`vllm` program, else the one on the PATH is taken."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contenders import Contender, Taken

from specterm.config import Request
from specterm.models.folders import BUILTIN_FOLDER

PROGRAM = os.environ.get("SPECTERM_VLLM") or shutil.which("vllm")
_STARTS_WITHIN_S = 600


class VllmServer:
    """`vllm serve` on a free local port, from entering the block until leaving it."""

    def __init__(self, log: Path, threads: int, speculative: Mapping[str, Any] | None = None) -> None:
        """`speculative` is the value of --speculative-config; `threads` are bound to as many cores, from the first."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._url, self._log = f"http://127.0.0.1:{port}", log
        self._command = [
            str(PROGRAM), "serve", str(BUILTIN_FOLDER / "target"), "--served-model-name", "builtin",
            "--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16", "--max-model-len", "1024",
            "--max-num-seqs", "4",
        ]  # fmt: skip
        if speculative is not None:
            self._command += ["--speculative-config", json.dumps(speculative)]
        cores = f"0-{threads - 1}" if threads > 1 else "0"
        outside = ("OMP_", "PYTHON", "SPECTERM_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
        self._environment = kept | {
            "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_NO_USAGE_STATS": "1",
            "PATH": f"{Path(str(PROGRAM)).parent}{os.pathsep}{kept['PATH']}",
        }  # fmt: skip

    def __enter__(self) -> VllmServer:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )
        end = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < end, self._log.read_text()[-3000:]
            time.sleep(1.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def contender(self, tokens: int) -> Contender:
        """One request after the other; a turn takes from the request to the whole answer."""

        def run(requests: Sequence[Request]) -> Taken:
            ids, began = [], time.perf_counter()
            for request in requests:
                asked = {
                    "model": "builtin", "prompt": request.prompt, "max_tokens": tokens, "temperature": 0.0,
                    "ignore_eos": True, "return_token_ids": True,
                }  # fmt: skip
                head = {"Content-Type": "application/json"}
                sent = urllib.request.Request(f"{self._url}/v1/completions", json.dumps(asked).encode(), head)
                with urllib.request.urlopen(sent, timeout=120) as answer:
                    ids.append(tuple(json.load(answer)["choices"][0]["token_ids"]))
            return Taken(time.perf_counter() - began, ids)

        return run

    def metric(self, name: str) -> float:
        """A counter of the server, summed over its labels; 0 where it has none of that name."""
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))
