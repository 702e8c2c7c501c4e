"""The licences of what comes along: the page says them, and none came that nobody has looked at."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/licences.md").read_text()
LOOKED_AT = {"scapy"}  # docs/licences.md has a section on each
MET = """
import sys
from pathlib import Path
from lbspeaker.wire import arp, ndp
for build in (arp.template, arp.probe_template, ndp.template, ndp.probe_template):
    build()
installed = [(m, getattr(module, "__file__", None) or "") for m, module in list(sys.modules.items())]
print(*sorted({m for m, file in installed if m.startswith("lbspeaker")}))
print(*sorted({m.partition(".")[0] for m, file in installed if "site-packages" in file}))
"""


@pytest.fixture(scope="module")
def inventory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inventory", ROOT / ".ci/inventory.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_table_of_what_is_installed(inventory: ModuleType) -> None:
    assert PAGE.endswith(f"\n{inventory.licences()}\n"), "see: python .ci/inventory.py licences"


def test_every_package_may_be_combined_with_ours_or_has_been_looked_at(inventory: ModuleType) -> None:
    others = {p.name for p in inventory.brought() if not inventory.combinable(inventory.licence(p))}
    assert others == LOOKED_AT
    assert all(f"\n## {name}\n" in PAGE for name in LOOKED_AT)


@pytest.mark.parametrize(
    ("expression", "verdict"),
    [
        ("MIT", True),
        ("Apache-2.0 AND BSD-2-Clause", True),
        ("GPL-2.0-or-later OR Apache-2.0", True),
        ("GPL-2.0-only", False),
        ("Apache-2.0 AND GPL-2.0-only", False),
        ("LicenseRef-of-somebody", False),
    ],
)
def test_one_alternative_suffices_and_every_part_of_it_counts(
    inventory: ModuleType, expression: str, verdict: bool
) -> None:
    assert inventory.combinable(expression) is verdict


def test_scapy_meets_five_modules_of_ours_and_nothing_else() -> None:
    """So that its licence concerns these alone."""
    done = subprocess.run([sys.executable, "-c", MET], capture_output=True, text=True, timeout=60, check=True)
    ours, others = (set(line.split()) for line in done.stdout.splitlines())
    ours -= {"lbspeaker.__main__"}
    assert ours == {
        "lbspeaker", "lbspeaker.errors", "lbspeaker.wire", "lbspeaker.wire.arp", "lbspeaker.wire.ndp"
    }  # fmt: skip
    installers = {name for name in others if name.startswith(("__editable__", "_distutils"))}
    assert others - installers == {"scapy"}


def test_nothing_else_imports_scapy() -> None:
    """Two modules that build frames, and the text of a process that names vendors."""
    names = {str(path.relative_to(ROOT)) for path in (ROOT / "lbspeaker").rglob("*.py") if _imports(path)}
    assert names == {"lbspeaker/wire/arp.py", "lbspeaker/wire/ndp.py", "lbspeaker/answering/aside.py"}


def _imports(path: Path) -> bool:
    return any(
        line.lstrip().startswith(("from scapy", "import scapy")) for line in path.read_text().splitlines()
    )
