"""What surrounds the code is true: make targets, pins, the version, the commands that the papers name."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lbspeaker
from lbspeaker import cli
from lbspeaker.core.guard import PROFILES
from lbspeaker.model import Reason

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PAPERS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = {"help", "demo", "test", "lint", "types", "fmt", "clean", "manifests", "venv"}
TARGETS |= {"bench", "fuzz", "image", "sim"}  # longer ones


def run(*argv: str | Path) -> str:
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "MAKEFLAGS": ""}
    done = subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- make -----------------------------------------------------------------------------------------------


def makefile_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text()
    return set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())  # type: ignore[index]


def test_make_help_lists_every_target() -> None:
    listed = {line.split()[1] for line in run("make", "--no-print-directory", "help").splitlines()}
    assert listed == makefile_targets() == TARGETS


def test_make_alone_helps() -> None:
    assert run("make", "--no-print-directory") == run("make", "--no-print-directory", "help")


# --- what is installed ----------------------------------------------------------------------------------


def needed(name: str, extras: frozenset[str]) -> Iterator[str]:
    """The names of all packages that `name` brings, as the installed packages say."""
    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        markers = [{"extra": extra} for extra in extras or {""}]
        if requirement.marker is None or any(requirement.marker.evaluate(m) for m in markers):
            yield canonicalize_name(requirement.name)


def everything_needed() -> set[str]:
    found: set[str] = set()
    waiting = set(needed("lbspeaker", frozenset({"", "dev"})))
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= set(needed(name, frozenset({""}))) - found
    return found


def test_every_package_is_pinned_and_installed_as_pinned() -> None:
    lines = (ROOT / ".ci/constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    assert everything_needed() <= pinned.keys()
    installed = {name: importlib.metadata.version(name) for name in everything_needed()}
    assert installed == {name: pinned[name] for name in installed}, "run: make venv"


def test_the_version_is_written_once_and_everything_else_agrees() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert importlib.metadata.version("lbspeaker") == lbspeaker.__version__
    images = yaml.safe_load((ROOT / "config/base/kustomization.yaml").read_text())["images"]
    assert images[0]["newTag"] == lbspeaker.__version__
    assert f'image.version="{lbspeaker.__version__}"' in (ROOT / "Dockerfile").read_text()
    assert f"## [{lbspeaker.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("program", ["lbspeaker", "kubectl-lbspeaker"])
def test_both_names_of_the_program_work(program: str) -> None:
    assert lbspeaker.__version__ in run(BIN / program, "--version")
    assert "check" in run(BIN / program, "--help")


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kubectl_finds_the_plugin() -> None:
    assert lbspeaker.__version__ in run("kubectl", "lbspeaker", "--version")


# --- files ----------------------------------------------------------------------------------------------


def files() -> list[Path]:
    """Every text file that is, or may come, under version control."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
        paths = [ROOT / name for name in listed]
    else:
        tops = [path for path in ROOT.iterdir() if path.name == ".ci" or path.name[0] != "."]
        paths = [path for top in tops for path in (top, *top.rglob("*")) if "egg-info" not in str(path)]
        paths = [path for path in paths if not {"build", "__pycache__"} & set(path.parts)]
    return [path for path in paths if path.is_file() and path.suffix not in {".pcap", ".png", ".gz"}]


HOME = "" if str(Path.home()) == "/" else str(Path.home())
FORBIDDEN = {
    "the address of a package index": r"pypi\.or[g]|pythonhoste[d]|[-]-(extra-)?index-ur[l]",
    "a path of this machine": "|".join(re.escape(f"{path}/") + "[a-z.]" for path in (ROOT, HOME) if path),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_contains(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [named(path) for path in files() if pattern.search(path.read_text(errors="replace"))]
    assert not found, f"{what} is in {found}"


def test_every_yaml_file_is_yaml() -> None:
    paths = [
        path for path in files() if path.suffix == ".yaml" and not {"tests", "templates"} & {*path.parts}
    ]
    assert {"config", "examples", ".github", ".ci"} <= {named(path).partition("/")[0] for path in paths}
    for path in paths:
        assert all(isinstance(one, dict) for one in yaml.safe_load_all(path.read_text())), path


def test_workflows_and_hooks_call_what_is_there() -> None:
    paths = [*(ROOT / ".github/workflows").glob("*.yaml"), ROOT / ".ci/pre-commit.yaml"]
    text = "\n".join(path.read_text() for path in paths)
    assert set(re.findall(r"entry: make (\w+)", text)) == {"lint", "types", "manifests"} < TARGETS
    called = {ROOT / name for name in re.findall(r"sudo (\S+)", text)}
    assert called == {ROOT / ".ci/run", ROOT / ".ci/kind"}
    assert all(os.access(path, os.X_OK) for path in called)


# --- papers ---------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line in a code block of the papers, as words, and where it stands."""
    for paper in PAPERS:
        for block in re.findall(
            r"^```(?:sh|console)\n(.*?)^```", paper.read_text(), re.MULTILINE | re.DOTALL
        ):
            for line in block.replace("\\\n", " ").splitlines():
                code = line.removeprefix("$ ").partition(" # ")[0]
                for part in re.split(r" \| | && ", code):
                    yield named(paper), part.removeprefix("sudo ").split()


COMMANDS = list(commands())


def test_every_make_target_in_the_papers_exists() -> None:
    asked = {words[1] for _, words in COMMANDS if words[:1] == ["make"]}
    assert {"demo", "test"} <= asked <= TARGETS


def our_commands() -> list[tuple[str, list[str]]]:
    ours = [(place, words) for place, words in COMMANDS if words[:1] == ["lbspeaker"]]
    plugged = [(place, words[1:]) for place, words in COMMANDS if words[:2] == ["kubectl", "lbspeaker"]]
    return ours + plugged


@pytest.mark.parametrize(
    ("place", "words"), our_commands(), ids=[" ".join(words) for _, words in our_commands()]
)
def test_every_command_in_the_papers_exists_with_its_options(place: str, words: list[str]) -> None:
    command: click.Command = cli.lbspeaker
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"{place}: lbspeaker has no command {rest[0]}"
        command, rest = found, rest[1:]
    known = {"--help", "--version", *(name for param in command.params for name in param.opts)}
    known |= {name for param in command.params for name in param.secondary_opts}
    if command.name != "exec":
        for option in (word.partition("=")[0] for word in rest if re.match("--?[a-z]", word)):
            assert option in known, f"{place}: {' '.join(words)}: no option {option}"
    for path in (word for word in rest if word.startswith(("examples/", "config/"))):
        assert (ROOT / path).exists(), f"{place}: there is no {path}"


def test_every_link_in_the_papers_leads_somewhere() -> None:
    for paper in [*PAPERS, ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", paper.read_text()):
            if "://" not in target:
                assert (paper.parent / target).exists(), f"{named(paper)}: {target}"


@pytest.mark.parametrize("name", sorted(set(PROFILES) - {"off"}))
def test_the_readme_has_the_budgets_of_the_guard(name: str) -> None:
    profile = PROFILES[name]
    most = f"{profile.burst + profile.rate:.0f} at most"
    row = f"| `{name}` | {most} ({profile.burst} at once, then {profile.rate:.0f} a second)"
    assert row in (ROOT / "README.md").read_text()


OPERATIONS = (ROOT / "docs/operations.md").read_text() if (ROOT / "docs/operations.md").exists() else ""


@pytest.mark.parametrize("reason", Reason)
def test_operators_find_every_reason(reason: Reason) -> None:
    assert f"| `{reason.value}` |" in OPERATIONS


def logged() -> set[str]:
    """The first word of every log line that the programs write."""
    words = set()
    for path in (ROOT / "lbspeaker").rglob("*.py"):
        if path.parent.name in {"lab", "cli"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                on = ast.unparse(node.func.value)
                if on.endswith("log") and node.func.attr in {"debug", "info", "warning", "error"}:
                    words |= {value.value for value in ast.walk(node.args[0]) if _is_word(value)}
    return words


def _is_word(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("word", sorted(logged()))
def test_operators_find_every_log_line(word: str) -> None:
    assert f"`{word}" in OPERATIONS
