"""Reads the Dockerfile and its ignore file as far as the tests need: instructions, stages, what is copied."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
IGNORE = ROOT / "deploy" / "Dockerfile.dockerignore"


@dataclass(frozen=True)
class Instruction:
    """One instruction; ``stage`` counts the FROM lines before it."""

    stage: int
    keyword: str
    text: str

    def words(self) -> list[str]:
        """The arguments, of the form in brackets or in words."""
        if self.text.startswith("["):
            listed: list[str] = json.loads(self.text)
            return listed
        return shlex.split(self.text)


def instructions() -> tuple[Instruction, ...]:
    """All instructions, in order."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    stage, found = 0, []
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        keyword, _, text = line.partition(" ")
        if keyword:
            stage += keyword == "FROM"
            found.append(Instruction(stage, keyword, " ".join(text.split())))
    return tuple(found)


def last_stage(keyword: str) -> list[Instruction]:
    """Instructions of the image that is kept."""
    everything = instructions()
    return [i for i in everything if i.keyword == keyword and i.stage == everything[-1].stage]


def pairs(keyword: str) -> dict[str, str]:
    """Names and values that the ENV or LABEL instructions of the image set."""
    return dict(word.split("=", 1) for one in last_stage(keyword) for word in one.words())


def command(keyword: str) -> list[str]:
    """The words of ENTRYPOINT, CMD or the health check."""
    (only,) = last_stage(keyword)
    return (
        Instruction(0, "", only.text.partition(" CMD ")[2]).words()
        if keyword == "HEALTHCHECK"
        else only.words()
    )


def copied() -> list[tuple[list[str], str]]:
    """Sources and target of everything that is copied from the checkout."""
    words = [i.words() for i in instructions() if i.keyword == "COPY" and "--from=" not in i.text]
    return [(one[:-1], one[-1]) for one in words]


def checkout() -> tuple[str, ...]:
    """The files that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return tuple(file for file in dict.fromkeys(listed) if (ROOT / file).is_file())


def context(files: Iterable[str]) -> Iterator[str]:
    """Those of the files that the ignore file lets through."""
    patterns = [line for line in IGNORE.read_text().splitlines() if line and not line.startswith("#")]
    for file in files:
        ignored = False
        for pattern in patterns:  # the last one that matches decides
            if _matches(pattern.removeprefix("!"), file):
                ignored = not pattern.startswith("!")
        if not ignored:
            yield file


def _matches(pattern: str, file: str) -> bool:
    """Whether the pattern names the file or a folder above it."""
    expression = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(f"{expression}(/.*)?", file) is not None


def copy_context(files: Iterable[str], target: Path) -> None:
    """Does with the files what the COPY instructions do."""
    files = list(context(files))
    for sources, place in copied():
        for source in sources:
            for file in files:
                if file == source or file.startswith(f"{source}/"):
                    folder = place if file == source else f"{place}/{Path(file).parent.relative_to(source)}"
                    (target / folder).mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / file, target / folder)
