"""The layer rule: import only to the right (docs/architecture.md)."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "lbspeaker"

# From the left (may import everything to its right) to the right (imports nothing of ours).
# Units that share a level do not know each other.
LEVELS = [
    {"__main__"},
    {"cli"},
    {"lab"},
    {"controller", "speaker", "answerer", "bfd"},
    {"bgp", "page"},
    {
        *("answering", "detecting", "events", "leading", "ledger", "measuring"),
        *("observe", "peering", "publishing", "reporting"),
    },
    {"core", "wire", "shell", "config"},
    {"facts", "upstream"},
    {"model"},
    {"errors"},
    {"__init__"},
]
PURE = {"core", "wire", "config", "facts", "upstream", "model", "errors"}
# What a pure unit may import from outside: nothing here does I/O, reads a clock or rolls a die.
ALLOWED = {
    "core": {"bisect", "difflib", "fractions", "hashlib", "heapq", "re"},
    "wire": {
        *("base64", "datetime", "hashlib", "hmac", "json", "msgspec", "prometheus_client", "re", "scapy"),
        "struct",
    },
    "config": {"bisect", "difflib", "re", "yaml"},
    "facts": set(),
    "upstream": set(),
    "model": set(),
    "errors": set(),
}
ALWAYS = {
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "ipaddress",
    "itertools",
    "math",
    "operator",
    "typing",
}

FILES = sorted(ROOT.rglob("*.py"))


def unit_of(module: str) -> str:
    """The unit of "lbspeaker.core.guard" is "core"."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> list[tuple[int, str]]:
    tree = ast.parse(path.read_text(), str(path))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "lbspeaker":
                found += [(node.lineno, f"lbspeaker.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, node.module or ""))
    return found


def level(unit: str) -> int:
    for number, units in enumerate(LEVELS):
        if unit in units:
            return number
    raise AssertionError(f"{unit} has no place in the layer rule")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_to_the_right(path: Path) -> None:
    unit = unit_of(".".join(("lbspeaker", *path.relative_to(ROOT).with_suffix("").parts)))
    for line, module in imports(path):
        top = module.split(".")[0]
        if top != "lbspeaker":
            if unit in PURE:
                assert top in ALLOWED[unit] | ALWAYS, f"{path}:{line}: {unit} may not import {module}"
            else:
                assert top in sys.stdlib_module_names or importlib.util.find_spec(top), module
            continue
        other = unit_of(module)
        if other in (unit, "__init__", "__version__"):
            continue
        assert level(unit) < level(other), f"{path}:{line}: {unit} may not import {module}"


def test_the_depth_of_the_package_is_two() -> None:
    assert max(len(path.relative_to(ROOT).parts) for path in FILES) <= 2


def test_nothing_is_called_utils() -> None:
    assert not [path for path in FILES if path.stem in {"utils", "util", "common", "helpers", "misc"}]
