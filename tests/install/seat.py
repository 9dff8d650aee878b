"""Commands on an installed system, as root and as others, and the transcript of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from pciedma_lab.machine import Machine

#: A guest builds the modules in some five minutes when it is alone.
BUILD_SECONDS = 600


class Seat:
    """Somebody at a machine's keyboard. All commands and what they printed go to a file as well."""

    def __init__(self, vm: Machine, transcript: Path) -> None:
        """Sit down."""
        self.vm = vm
        self._transcript = transcript
        self.note(f"--- started, kernel {vm.kernel_release}")

    def note(self, text: str) -> None:
        """Write a line into the transcript."""
        with self._transcript.open("a") as file:
            file.write(f"{text}\n")

    def try_root(self, script: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a script as root with bash; returns its status, and as stdout all that it printed."""
        argv = ["env", "-u", "PYTHONPATH", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]
        return self._run("# ", script, [*argv, "bash", "-c", f"exec 2>&1; {script}"], timeout_s)

    def root(self, script: str, timeout_s: float = 60) -> str:
        """Run a script as root and return what it printed; fails if it does."""
        result = self.try_root(script, timeout_s)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def try_user(self, name: str, script: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a script as if *name* had just logged in."""
        argv = ["runuser", "-l", name, "-c", f"exec 2>&1; {script}"]
        return self._run(f"{name}$ ", script, argv, timeout_s)

    def user(self, name: str, script: str, timeout_s: float = 60) -> str:
        """Run a script as a user and return what it printed; fails if it does."""
        result = self.try_user(name, script, timeout_s)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def doctor(self, name: str = "alice", options: str = "") -> dict[str, dict[str, Any]]:
        """Let doctor speak to the transcript; returns its problems and notes by check, of each the first."""
        self.try_user(name, f"pciedma doctor {options}")
        # Once more, quietly: the transcript has the text for people.
        said = self.vm.run(["runuser", "-l", name, "-c", f"pciedma doctor --json {options}"], 60).stdout
        findings = json.loads(said)["findings"]
        return {found["check"]: found for found in reversed(findings) if found["status"] in ("problem", "note")}

    def take_steps(self, finding: dict[str, Any], timeout_s: float = 60) -> None:
        """Type what doctor says, as root."""
        for step in finding["steps"]:
            if not step.startswith("#"):
                self.root(step, timeout_s)

    def _run(self, prompt: str, script: str, argv: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        self.note(prompt + script.strip())
        result = self.vm.run(argv, timeout_s, cwd="/")
        status = f"(status {result.returncode})\n" if result.returncode else ""
        self.note(result.stdout + result.stderr + status)
        return subprocess.CompletedProcess(argv, result.returncode, result.stdout + result.stderr, "")
