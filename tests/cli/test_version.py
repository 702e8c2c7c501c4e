"""`lbspeaker version`: what runs here and there, and whether it fits together."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from lbspeaker import __version__
from lbspeaker.config.crds import crds
from lbspeaker.lab.apiserver import ApiServer, kubeconfig
from lbspeaker.model import LeaderRecord
from lbspeaker.wire import kube, speaker_object
from tests.wire.test_status import STATUS

SYSTEM = "lbspeaker-system"


def cluster(controller: str, **speakers: str) -> list[dict[str, Any]]:
    """A cluster whose controller and speakers are of these versions; "" for those that run no more."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    objects = [namespace, *crds()]
    now = time.time()
    if controller:
        objects.append(json.loads(kube.leader_lease(LeaderRecord("one", 8.0), SYSTEM, now, controller)))
    for node, release in speakers.items():
        said = structs.replace(STATUS, node=node, version=release or "0.0.1")
        objects.append(json.loads(kube.lease(node, SYSTEM, now if release else now - 60)))
        written = json.loads(kube.speaker(node, SYSTEM))
        objects.append({**written, "status": speaker_object.body(said, now)})
    return objects


def ask(directory: Path, objects: list[dict[str, Any]], *words: str) -> subprocess.CompletedProcess[str]:
    async def story() -> subprocess.CompletedProcess[str]:
        server = ApiServer()
        server.load(objects)
        await server.start()
        try:
            file = directory / "kubeconfig"
            file.write_text(kubeconfig(server.url))
            return await asyncio.to_thread(run, *words, "--kubeconfig", str(file))
        finally:
            await server.stop()

    return asyncio.run(story())


def run(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "lbspeaker", "version", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def lines(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    return [line.split() for line in done.stdout.splitlines()]


def test_all_of_one_version(tmp_path: Path) -> None:
    v = __version__
    done = ask(tmp_path, cluster(v, a=v, b=v, gone=""))
    assert (done.returncode, done.stderr) == (0, "")
    assert lines(done)[1:] == [
        ["client", v, "here"],
        ["controller", v, "one"],
        ["2", "speakers", v, "a,", "b"],
    ]


def test_an_upgrade_that_is_under_way_is_told_and_another_minor_version_is_no_success(tmp_path: Path) -> None:
    nearly = __version__.rpartition(".")[0] + ".99"
    done = ask(tmp_path, cluster(nearly, a=nearly, b=__version__))
    assert done.returncode == 0
    assert (
        f"{nearly} by the controller and the speaker of a, {__version__} by the speaker of b" in done.stderr
    )
    assert "is an upgrade under way?" in done.stderr
    done = ask(tmp_path, cluster("7.1.0", a="7.1.0"), "-o", "json")
    assert done.returncode == 1
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning == f"this program is {__version__}, and the cluster runs 7.1.0: use that here"
    assert json.loads(done.stdout)["speakers"] == {"a": "7.1.0"}


def test_nothing_runs(tmp_path: Path) -> None:
    done = ask(tmp_path, cluster(""))
    assert (done.returncode, lines(done)[2]) == (0, ["controller", "-", "none", "acts"])


def test_without_a_cluster_it_tells_its_own(tmp_path: Path) -> None:
    done = run("--kubeconfig", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stdout) == (3, f"client {__version__}\n")
    assert "or ask for --client alone" in done.stderr
    assert run("--client").stdout == f"client {__version__}\n"
    assert json.loads(run("--client", "-o", "json").stdout) == {"client": __version__}


@pytest.mark.parametrize("words", [["--client"], []])
def test_help_has_an_example(words: list[str]) -> None:
    assert " ".join(["lbspeaker version", *words]) in run("--help").stdout
