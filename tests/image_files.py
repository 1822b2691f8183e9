"""Reads the Dockerfiles of deploy/: build arguments filled in, one stage after another."""

from __future__ import annotations

import io
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"


@dataclass
class Stage:
    """One stage: what it is built from and each instruction with its value, arguments filled in."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        """Every value of an instruction."""
        return [value for name, value in self.steps if name == instruction]

    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        pairs = [word.partition("=") for value in self.values("ENV") for word in shlex.split(value)]
        return {name: value for name, _, value in pairs}

    def command(self, instruction: str) -> list[str]:
        """The words of ENTRYPOINT, or of HEALTHCHECK's CMD, in their exec form."""
        (value,) = self.values(instruction)
        return [str(word) for word in json.loads(value[value.index("[") :])]


def stages(image: str, **arguments: str) -> list[Stage]:
    """The stages of deploy/IMAGE.Dockerfile when it is built with those arguments."""
    parser = DockerfileParser(fileobj=io.BytesIO((DEPLOY / f"{image}.Dockerfile").read_bytes()))
    known: dict[str, str] = {}
    found: list[Stage] = []
    for step in parser.structure:
        instruction, value = step["instruction"], step["value"]
        if instruction == "COMMENT":
            continue
        if instruction == "ARG":
            name, _, default = value.partition("=")
            known[name] = arguments.get(name, default)
            continue
        value = re.sub(r"\$\{(\w+)\}", lambda match: known.get(match[1], match[0]), value)
        if instruction == "FROM":
            base, _, name = value.partition(" AS ")
            found.append(Stage(base, name))
        else:
            found[-1].steps.append((instruction, value))
    return found
