"""`lbspeaker check` as its users meet it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

POOLS = """\
apiVersion: lbspeaker.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.10-192.0.2.20,
  192.0.2.90-192.0.2.60]}
"""
SERVICE = b"""\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 80}]}
"""
REVERSED = """\
pools.yaml:5: IPAddressPool/lan: spec.addresses[1]: '192.0.2.90-192.0.2.60' ends before it starts
    hint: write 192.0.2.60-192.0.2.90
1 problem in pools.yaml
"""


def check(*arguments: str, cwd: Path, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run the program; return its exit status, output and error output."""
    command = [sys.executable, "-m", "lbspeaker", "check", *arguments]
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_reversed_range_is_told_with_its_place_and_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_text(POOLS)
    assert check("pools.yaml", cwd=tmp_path) == (1, REVERSED, "")


def test_the_same_as_json(tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_text(POOLS)
    status, output, _ = check("pools.yaml", "-o", "json", cwd=tmp_path)
    assert status == 1
    assert json.loads(output) == {
        "valid": False,
        "problems": [
            {
                "file": "pools.yaml",
                "line": 5,
                "object": "IPAddressPool/lan",
                "path": "spec.addresses[1]",
                "what": "'192.0.2.90-192.0.2.60' ends before it starts",
                "hint": "write 192.0.2.60-192.0.2.90",
                "severity": "error",
            }
        ],
    }


def test_warnings_are_told_and_are_no_failure(tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_text(POOLS.replace("192.0.2.90-192.0.2.60", "198.51.100.7/24"))
    status, output, _ = check("pools.yaml", cwd=tmp_path)
    assert status == 0
    assert output == (
        "warning: pools.yaml:5: IPAddressPool/lan: spec.addresses[1]:"
        " '198.51.100.7/24' has host bits; it means 198.51.100.0/24\n"
        "    hint: write 198.51.100.0/24\n"
        "pools.yaml: valid: 1 pool (1 warning)\n"
    )
    status, output, _ = check("pools.yaml", "-o", "json", cwd=tmp_path)
    assert (status, json.loads(output)["valid"], len(json.loads(output)["problems"])) == (0, True, 1)


def test_a_directory_is_read_to_its_depth_and_names_are_found_across_files(tmp_path: Path) -> None:
    pool = POOLS.replace("192.0.2.90-192.0.2.60", "198.51.100.0/24")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "pool.yml").write_text(pool)
    (tmp_path / "a.json").write_text(
        '{"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": {"name": "x"},'
        ' "spec": {"ipAddressPools": ["lan"]}}'
    )
    (tmp_path / "notes.txt").write_text("kind: [")
    status, output, _ = check(".", cwd=tmp_path)
    assert (status, output) == (0, ".: valid: 1 L2Advertisement, 1 pool\n")
    assert check(".", ".", cwd=tmp_path)[0] == 0, "what is given twice is read once"
    (tmp_path / "c.yaml").write_text(pool)
    status, output, _ = check(".", cwd=tmp_path)
    assert status == 1
    assert (
        "c.yaml:3: IPAddressPool/lan: metadata.name: IPAddressPool/lan is defined already (b/pool.yml:1)"
        in output
    )
    assert output.endswith("1 problem in c.yaml\n")


def test_standard_input(tmp_path: Path) -> None:
    status, output, _ = check("-", cwd=tmp_path, stdin=POOLS.encode())
    assert (status, output) == (1, REVERSED.replace("pools.yaml", "-"))


@pytest.mark.parametrize(
    ("content", "first_line", "status"),
    [
        (b"kind: [\n", "bad.yaml:2: this is not YAML: while parsing a flow node", 1),
        (b"", "bad.yaml: valid: no configuration in it (no documents at all)", 0),
        (SERVICE, "bad.yaml: valid: no configuration in it (1 Service)", 0),
        (SERVICE.replace(b"port: 80", b"port: http"), "bad.yaml:4: Service/web: spec.ports[0].port: ", 1),
        (
            b"- a\n",
            "bad.yaml:1: a document is a mapping with apiVersion, kind and metadata; this is a list",
            1,
        ),
    ],
)
def test_files_that_hold_something_else(tmp_path: Path, content: bytes, first_line: str, status: int) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    code, output, errors = check("bad.yaml", cwd=tmp_path)
    assert output.splitlines()[0].startswith(first_line)
    assert (code, errors) == (status, "")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("nowhere.yaml", "lbspeaker: nowhere.yaml: no such file or directory; name a YAML file"),
        ("latin.yaml", "lbspeaker: latin.yaml: is not UTF-8 text (byte 6); save it as UTF-8"),
        ("/proc/self/mem", "lbspeaker: /proc/self/mem: cannot be read: "),
    ],
)
def test_a_path_that_cannot_be_read_is_another_failure(tmp_path: Path, path: str, what: str) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"kind: \xff\n")
    status, output, errors = check(path, cwd=tmp_path)
    assert (status, output) == (3, "")
    assert errors.startswith(what)
    assert errors.count("\n") == 1


def test_help_shows_an_example(tmp_path: Path) -> None:
    status, output, _ = check("--help", cwd=tmp_path)
    assert status == 0
    assert "lbspeaker check pools.yaml" in output
    assert check(cwd=tmp_path)[0] == 2


def test_what_is_no_object_is_counted(tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_bytes(SERVICE)
    for name in ("nginx-values.yaml", "traefik-values.yaml"):
        (tmp_path / name).write_text("service: {type: LoadBalancer}\n")
    said = ".: valid: no configuration in it (2 objects without kind, 1 Service)\n"
    assert check(".", cwd=tmp_path) == (0, said, "")


def test_what_would_be_waited_for_in_vain_is_told(tmp_path: Path) -> None:
    capital = b"apiVersion: lbspeaker.io/v1beta1\nKind: IPAddressPool\nmetadata: {name: x}\n"
    status, output, _ = check("-", cwd=tmp_path, stdin=capital)
    assert status == 1
    assert "kind is missing" in output
    wish = b"{name: web, annotations: {lbspeaker.io/loadBalancerIP: 192.0.2.1}}"
    status, output, _ = check("-", cwd=tmp_path, stdin=SERVICE.replace(b"{name: web}", wish))
    assert status == 0
    assert 'metadata.annotations["lbspeaker.io/loadBalancerIP"]: unknown annotation' in output
    assert "hint: did you mean lbspeaker.io/loadBalancerIPs?" in output
    move = b"{name: web, annotations: {lbspeaker.io/preferred-node: node-b}}"
    _, output, _ = check("-", cwd=tmp_path, stdin=SERVICE.replace(b"{name: web}", move))
    assert "unknown annotation" not in output, "it is what `lbspeaker move` writes"
