"""Runs every console block of a README in a scratch folder that sees the repository's models; the first error fails it.

A fenced block of language `console` holds lines `$ command`; other lines are sample output and not compared. A fenced
block of language `python` is run as a script. `make ...` lines are left to CI's own steps.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, body) of every fenced block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.M | re.S)


def main(readme: Path) -> int:
    """Runs the blocks; returns the exit code."""
    root = readme.resolve().parent
    environment = {**os.environ, "PATH": f"{root / '.venv' / 'bin'}:{os.environ['PATH']}"}
    ran = 0
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "models").symlink_to(root / "models")
        for language, body in blocks(readme.read_text()):
            if language == "console":
                lines = [line[2:] for line in body.splitlines() if line.startswith("$ ")]
                commands = [
                    ["bash", "-ec", line] for line in lines if not line.startswith(("make", "git clone", "cd "))
                ]
            elif language == "python":
                commands = [[str(root / ".venv" / "bin" / "python"), "-c", body]]
            else:
                continue
            for command in commands:
                print("$", command[-1].strip(), flush=True)
                done = subprocess.run(command, cwd=scratch, env=environment, check=False)
                if done.returncode:
                    print(f"{readme}: this command failed with exit code {done.returncode}", file=sys.stderr)
                    return 1
                ran += 1
    print(f"{ran} commands of {readme.name} ran")
    return 0 if ran else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
