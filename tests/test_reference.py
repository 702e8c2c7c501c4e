"""The reference says what the code does: its tables are made from it, kubectl tells the same sentences."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lbspeaker.config.crds import crds
from lbspeaker.config.kinds import AUTHORED, OURS
from lbspeaker.wire import kube_objects
from tests.lab import apiserver_backends

ROOT = Path(__file__).parent.parent
PAPERS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()


@pytest.mark.parametrize("name", ["configuration.md", "security.md"])
def test_the_tables_are_those_that_the_code_makes(name: str, tmp_path: Path) -> None:
    paper = ROOT / "docs" / name
    copy = Path(shutil.copy(paper, tmp_path))
    subprocess.run([sys.executable, ROOT / ".ci/reference", copy], cwd=ROOT, check=True, timeout=60)
    assert paper.read_text() == copy.read_text(), "run: make manifests"
    assert "<!-- made: " in paper.read_text()


def anchors(paper: Path) -> set[str]:
    """What one can link to in a paper: its headings, as GitHub names them."""
    text = re.sub(r"^```.*?^```", "", paper.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_every_link_leads_to_a_heading(paper: Path) -> None:
    for name, anchor in re.findall(r"\]\(([^):#]*)#([^)]+)\)", paper.read_text()):
        target = paper.parent / name if name else paper
        assert anchor in anchors(target), f"{paper.name}: {name}#{anchor}"


def test_every_annotation_has_its_line() -> None:
    written = {f"lbspeaker.io/{name}" for name in kube_objects.ANNOTATIONS}
    leases = {kube_objects.DRAINING, kube_objects.LINKS, kube_objects.DOUBTS, kube_objects.PINS}
    told = set(re.findall(r"`(lbspeaker\.io/[\w-]+)`", CONFIGURATION)) - {OURS}
    assert told == written | leases | {"lbspeaker.io/Allocated", "lbspeaker.io/in-use"}


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    schema = schema.get("items", schema)
    for key, inner in schema.get("properties", {}).items():
        yield f"{path}.{key}", inner
        yield from fields(inner, f"{path}.{key}")


@pytest.mark.parametrize("kind", [kind.name for kind in AUTHORED])
def test_kubectl_can_explain_every_field(kind: str) -> None:
    (definition,) = [one for one in crds() if one["spec"]["names"]["kind"] == kind]
    whole = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    found = dict(fields({"properties": {key: whole[key] for key in ("spec", "status")}}, kind))
    assert len(found) > 5
    assert not [path for path, schema in found.items() if not schema.get("description", "").endswith(".")]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kubectl_says_what_the_reference_says(tmp_path: Path) -> None:
    with apiserver_backends.memory(tmp_path) as client:

        def kubectl(cache: str, *words: str | Path) -> str:
            place = [f"--kubeconfig={client.kubeconfig}", f"--cache-dir={tmp_path / cache}"]
            done = subprocess.run(["kubectl", *place, *words], capture_output=True, text=True, timeout=60)
            assert not done.returncode, done.stderr
            return " ".join(done.stdout.split())

        kubectl("before", "apply", "-f", ROOT / "config/base/crds.yaml")
        for field, sentence in {
            "ippool.spec.cooldown": "How long a released IP is given to nobody else; at most 24h.",
            "linkpol.spec.refreshSeconds": "Seconds after which what did not change is announced again",
            "bgpp.spec.passwordSecret.name": "Name of a Secret of type kubernetes.io/basic-auth.",
        }.items():
            assert sentence in kubectl("after", "explain", field)
            assert sentence in CONFIGURATION
