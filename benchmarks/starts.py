"""What starting costs: the plugin inside a task of the host, and the console scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks import sides
from benchmarks.figures import Case, Side, in_turn
from benchmarks.running import output, run, script
from benchmarks.scale import Scale

IMPORTS = "imports in a task of the host"
PLUGIN, HOST = "this plugin", "the host"
START = "start of a program"
BASE = "import argparse, pubtools.pluggy"
MERGE_HELP = "pubtools-mlmerge-merge --help"
BESIDE_HOST = f"{MERGE_HELP}, beside the host"
_PROGRAMS = ("merge", "remove-archs", "inspect", "restore", "demo")
_HOST_HELP = "pubtools-quay-merge-manifest-list --help"
_HOST_PROGRAM = "from pubtools._quay.merge_manifest_list import *; merge_manifest_list_main()"

# Loads what a task of the host loads anyway, and then what a task finds of this project.
_TASK = """
import importlib, json, sys, time
from importlib.metadata import distribution
began = time.perf_counter()
for entry in distribution("pubtools-quay").entry_points:
    if entry.group == "console_scripts":
        entry.load()
host = time.perf_counter() - began
known = {*sys.modules, *sys.builtin_module_names}
began = time.perf_counter()
for name in ("plugin", "cli.parsers", "cli.demo"):
    importlib.import_module(f"pubtools_mlmerge.{name}")
own = time.perf_counter() - began
foreign = {name for name in set(sys.modules) - known if not name.startswith("pubtools_mlmerge")}
print(json.dumps([host, own, sorted(foreign)]))
"""


def imports(scale: Scale) -> Iterator[Case]:
    """Measure what the plugin adds to the host's own imports."""
    if not sides.HAS_HOST:
        return
    host, own = [], []
    for _ in range(scale.warm + scale.runs):
        took, added, foreign = json.loads(output([sys.executable, "-c", _TASK]))
        assert not foreign, f"the plugin loads what the host does not: {foreign}"
        host.append(took)
        own.append(added)
    taken = {
        PLUGIN: Side(values=tuple(own[scale.warm :])),
        HOST: Side(values=tuple(host[scale.warm :])),
    }
    yield Case(name=IMPORTS, details={}, sides=taken, against=HOST)


def starts(scale: Scale, alone: str) -> Iterator[Case]:
    """Measure how long programs take to show their help.

    Args:
        scale (Scale):
            How often.
        alone (str):
            A Python beside which this project is installed, and no host.

    Yields:
        Case: What was measured.
    """
    commands = {
        f"pubtools-mlmerge-{name} --help": [*script(alone, name), "--help"] for name in _PROGRAMS
    }
    if sides.HAS_HOST:
        commands[BESIDE_HOST] = [*script(sys.executable, "merge"), "--help"]
        commands[_HOST_HELP] = [sys.executable, "-c", _HOST_PROGRAM, "--help"]
    commands[BASE] = [alone, "-c", BASE]
    runs = {name: partial(run, command) for name, command in commands.items()}
    values = in_turn(runs, scale.runs, warm=scale.warm)
    taken = {name: Side(values=each) for name, each in values.items()}
    yield Case(name=START, details={}, sides=taken, against=BASE)
