"""Write the Helm chart's templates from what kustomize makes, so that both install the same.

`make manifests` runs it. Chart.yaml, values.yaml and NOTES.txt are written by hand, but for the version.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHART = ROOT / "config/chart"
MODES = {"both": "", "layer2": "layer2", "bgp": "bgp"}
HEADER = "# Generated from ../../base and its overlays: make manifests\n"
# What a release chooses, in place of what kustomize has.
CHOICES = (
    (r"namespace: lbspeaker-system", "namespace: {{ .Release.Namespace }}"),
    (
        r"image: lbspeaker:.*",
        "image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}",
    ),
    (
        r"^( *)- args:\n((?:\1  - .*\n)*?\1  - (controller|speaker)\n(?:\1  - .*\n)*)",
        r"\1- args:\n\2\1  - --namespace={{ .Release.Namespace }}\n"
        r"\1  {{- range .Values.\3.args }}\n\1  - {{ . | quote }}\n\1  {{- end }}\n",
    ),
)


def rendered(overlay: str) -> dict[tuple[str, str], str]:
    """What `kubectl apply -k config/OVERLAY` applies, by kind and name; without CRDs and Namespace."""
    argv = ["kubectl", "kustomize", ROOT / "config" / overlay]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = {}
    for document in text.split("---\n"):
        kind = re.search(r"^kind: (.*)$", document, re.MULTILINE)
        name = re.search(r"^  name: (.*)$", document, re.MULTILINE)
        if kind and name and kind[1] not in {"CustomResourceDefinition", "Namespace"}:
            found[kind[1], name[1]] = document
    return found


def template(document: str) -> str:
    for pattern, choice in CHOICES:
        document = re.sub(pattern, choice, document, flags=re.MULTILINE)
    return document


def files() -> dict[str, str]:
    """The templates, by name."""
    objects = {mode: rendered(overlay) for mode, overlay in MODES.items()}
    same = [text for key, text in objects["both"].items() if key != ("DaemonSet", "speaker")]
    speakers = [(mode, objects[mode]["DaemonSet", "speaker"]) for mode in MODES]
    cases = "".join(
        f'{{{{- {"else " if number else ""}if eq .Values.mode "{mode}" }}}}\n{template(text)}'
        for number, (mode, text) in enumerate(speakers)
    )
    wrong = '{{- else }}\n{{- fail "mode: both, layer2 or bgp" }}\n{{- end }}\n'
    return {
        "all.yaml": HEADER + "---\n".join(map(template, same)),
        "speaker.yaml": HEADER + cases + wrong,
    }


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from lbspeaker import __version__

    for name, text in files().items():
        (CHART / "templates" / name).write_text(text)
    chart = CHART / "Chart.yaml"
    chart.write_text(re.sub(r"ersion: .*", f"ersion: {__version__}", chart.read_text()))


if __name__ == "__main__":
    main()
