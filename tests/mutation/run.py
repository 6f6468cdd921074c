"""Runs the unit tests of a package against every mutant of a module and lists those that no test notices.

Every mutant is tested in a process of its own, forked from one that has imported nothing of the package; the mutated
module takes the place of the real one when it is imported. Quick tests come first and the first failure ends a run.
Property tests play fewer examples than usual, always the same ones.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import sys
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

from broker.domain import errors, pool, principal, state  # noqa: F401 - so that they are imported once
from tests.mutation.mutants import Mutant, mutants


@dataclass(frozen=True, slots=True)
class Subject:
    """A package, its modules, and the folder of its tests: of them the ``last`` take long, ``others`` add nothing."""

    package: str
    modules: tuple[str, ...]
    folder: Path
    last: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def tests(self) -> list[str]:
        """The files of the tests, quick ones first."""
        found = sorted(path.name for path in self.folder.glob("test_*.py"))
        quick = [name for name in found if name not in {*self.last, *self.others}]
        return [str(self.folder / name) for name in (*quick, *self.last)]


CORE = Subject(
    "broker.policy.admission",
    ("scheduler", "fair_queue", "levels", "backend", "dispatch", "book", "pool", "foregone", "groups", "tenants",
     "verdicts", "hopeless", "shard", "work_ledger", "reading"),
    Path("tests/unit/policy/admission"),
    ("test_metamorphic.py", "test_scheduler_properties.py"),
    ("test_long_run.py", "test_record.py", "test_stretch.py", "test_stretch_loop.py"),
)  # fmt: skip
ROLLUPS = Subject(
    "broker.policy.rollups",
    ("normal", "implication", "asked", "bits", "boundaries", "candidates", "reasons", "stored", "intervals", "ways",
     "dominance", "cheapest", "costs", "shortlist", "covering", "cover", "scan", "snap", "closed", "seals",
     "definition", "sizing", "advise", "advised"),
    Path("tests/unit/policy/rollups"),
    ("test_cover_oracle.py", "test_advise.py", "test_implication.py"),
)  # fmt: skip
SUBJECTS = {"core": CORE, "rollups": ROLLUPS}
OWNER = {module: subject for subject in SUBJECTS.values() for module in subject.modules}
CPU_SECONDS = 60


class Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a syntax tree."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self._name, self._tree = name, tree

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, f"<{self._name} with a mistake>", "exec"), module.__dict__)


def survives(subject: Subject, module: str = "", tree: ast.Module | None = None) -> bool:
    """Whether all tests of a subject pass with a module replaced; one that runs for too long does not."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    hypothesis.settings.register_profile("mutation", derandomize=True, database=None)
    hypothesis.settings.load_profile("mutation")
    if tree is not None:
        sys.meta_path.insert(0, Replaced(f"{subject.package}.{module}", tree))
    status = 1
    try:
        options = [
            "-x",
            "-q",
            "--assert=plain",
            "-p",
            "no:cacheprovider",
            "--noconftest",
        ]  # none needs a server
        status = pytest.main([*options, *subject.tests])
    finally:
        os._exit(int(status))


def examine(module: str, lines: Container[int] | None = None) -> list[Mutant]:
    """The mutants of a module (or of some of its lines) that no test notices; tells of each as it is found."""
    subject = OWNER[module]
    source = Path(*subject.package.split("."), f"{module}.py").read_text()
    began, survivors, count = time.monotonic(), [], 0
    for mutant in mutants(source):
        if lines is not None and mutant.line not in lines:
            continue
        count += 1
        if sys.stderr.isatty():
            sys.stderr.write(f"{module} {count}\r")
        if survives(subject, module, mutant.tree):
            survivors.append(mutant)
            _tell(f"{module}.py:{mutant.line}: {_line(mutant.before)}  →  {_line(mutant.after)}")
    took = time.monotonic() - began
    _tell(f"{module}: {count - len(survivors)} of {count} mutants noticed, {took:.0f} s")
    return survivors


def _line(code: str) -> str:
    return " ".join(code.split("\n", 1)[0].split())[:110]


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Examines the modules named (lines of them, as ``book:71,72``, or all of a subject); without any the core."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    known = [*SUBJECTS, *OWNER]
    parser.add_argument("modules", nargs="*", metavar="MODULE[:LINE,...]", help=f"of {', '.join(known)}")
    named = [place.partition(":") for place in parser.parse_args(arguments).modules or ["core"]]
    if unknown := {name for name, _, _ in named} - set(known):
        parser.error(f"no module is called {', '.join(sorted(unknown))}")
    places = [
        (module, lines)
        for name, _, lines in named
        for module in (SUBJECTS[name].modules if name in SUBJECTS else [name])
    ]
    for subject in {OWNER[module].package: OWNER[module] for module, _ in places}.values():
        if not survives(subject):
            _tell("scripts/mutate: the tests fail without any mistake; run them first")
            return 2
    survivors = [
        mutant
        for module, lines in places
        for mutant in examine(module, [int(line) for line in lines.split(",")] if lines else None)
    ]
    return 1 if survivors else 0
