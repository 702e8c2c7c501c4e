"""Say what the program brings along, and under which licences.

python .ci/inventory.py licences      the table of docs/licences.md, from the packages that are installed here
python .ci/inventory.py sbom ROOT     what is in a root file system of the image, as CycloneDX 1.5 (JSON)
"""

import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = "lbspeaker"
# What packages write that have no licence expression of SPDX yet.
SPDX = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# Nobody doubts that these may be combined with Apache-2.0, in one program.
COMBINABLE = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "PSF-2.0"}


def licence(package: Distribution) -> str:
    """Return the licence of a Python package as an expression of SPDX; raises ValueError if it has none."""
    metadata = package.metadata
    classified = [
        line.split(" :: ")[-1] for line in metadata.get_all("Classifier") or () if "License" in line
    ]
    for said in (metadata.get("License-Expression"), metadata.get("License"), *classified):
        found = SPDX.get(said or "", said or "")
        if re.fullmatch(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+)*", found):
            return found
    raise ValueError(
        f"{metadata['Name']} says no licence that this table knows: add it to SPDX in {__file__}"
    )


def combinable(expression: str) -> bool:
    """Whether one of the alternatives needs no second look. Expressions have no brackets so far."""
    return any(set(choice.split(" AND ")) <= COMBINABLE for choice in expression.split(" OR "))


def brought(name: str = OURS) -> Iterator[Distribution]:
    """All packages that this one needs at run time, directly or not, once each, by name."""
    found: dict[str, Distribution] = {}
    waiting = [name]
    while waiting:
        package = importlib.metadata.distribution(waiting.pop())
        found[canonicalize_name(package.name)] = package
        for requirement in map(Requirement, package.requires or ()):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and canonicalize_name(requirement.name) not in found:
                waiting.append(requirement.name)
    return (found[key] for key in sorted(found) if key != name)


def licences() -> str:
    """The table, in Markdown."""
    rows = [f"| {package.name} | `{licence(package)}` |" for package in brought()]
    return "\n".join(["| package | licence |", "|---|---|", *rows])


# --- what is in the image -------------------------------------------------------------------------------


def python_packages(root: Path) -> Iterator[dict[str, object]]:
    places = [str(path) for path in root.glob("opt/*/lib/python3*/site-packages")]
    for package in importlib.metadata.distributions(path=places):
        name = canonicalize_name(package.name)
        yield {
            "type": "library",
            "name": package.name,
            "version": package.version,
            "licenses": [{"expression": licence(package)}],
            "purl": f"pkg:pypi/{name}@{quote(package.version)}",
        }


def debian_packages(root: Path) -> Iterator[dict[str, object]]:
    system = dict(line.split("=", 1) for line in (root / "etc/os-release").read_text().splitlines())
    release = f"{system['ID']}-{system['VERSION_ID']}".replace('"', "")
    for text in (root / "var/lib/dpkg/status").read_text().strip().split("\n\n"):
        field = dict(re.findall(r"^([A-Za-z-]+): (.*)$", text, re.MULTILINE))
        if field["Status"] != "install ok installed":
            continue
        name, version, arch = field["Package"], field["Version"], field["Architecture"]
        papers = root / f"usr/share/doc/{name}/copyright"
        named = re.findall(r"^License: *(\S.*)$", papers.read_text(), re.MULTILINE) if papers.exists() else []
        yield {
            "type": "library",
            "name": name,
            "version": version,
            "licenses": [{"license": {"name": each}} for each in sorted(set(named))],  # Debian's own names
            "purl": f"pkg:deb/debian/{name}@{quote(version)}?arch={arch}&distro={release}",
        }


def sbom(root: Path) -> dict[str, object]:
    packages = sorted(python_packages(root), key=lambda package: str(package["purl"]))
    (ours,) = (package for package in packages if package["name"] == OURS)
    packages.remove(ours)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**ours, "type": "container"}},
        "components": [*packages, *sorted(debian_packages(root), key=lambda package: str(package["purl"]))],
    }


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["licences"]:
            print(licences())
        case ["sbom", place]:
            print(json.dumps(sbom(Path(place)), indent=1))
        case _:
            sys.exit(__doc__)
