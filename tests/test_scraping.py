"""What Prometheus hears of both programs, at work as their manifests start them, and makes of it."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from lbspeaker.lab import apiserver, namespaces, rootless
from tests.test_manifests import EXAMPLE, OBJECTS, ROOT, container, on_stage, ours, read, running
from tests.test_monitoring import ALERTS, MONITORING, expressions, needs_promtool, promtool

pytestmark = pytest.mark.lab
STAGE = f"lbs-mon{os.getpid()}"
PROMETHEUS = shutil.which("prometheus")
NAME = re.compile(r"\b((?:lbspeaker|process)_[a-z_]+)")
SELECTOR = re.compile(r"\b((?:lbspeaker|process)_[a-z_]+)\{([^}]*)\}")
GROUP = re.compile(r"\b(?:by|without|on) \(([^)]*)\)")
SUFFIX = re.compile(r"_(bucket|count|sum)$")
PORTS = {"controller": 7473, "speaker": 7474}


def names(text: str) -> set[str]:
    """The metrics that an expression asks for; of a histogram, its own name."""
    return {SUFFIX.sub("", name) for name in NAME.findall(text)}


def scrape(stage: str, port: int) -> str:
    def ask() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            return str(answer.read().decode())

    return namespaces.inside(stage, ask)


def probes_of_manifests() -> Iterator[tuple[str, str]]:
    """Where the manifests have the kubelet ask (port and path), after program and probe."""
    for program, kind in (("controller", "Deployment"), ("speaker", "DaemonSet")):
        found = container(kind, program)
        ports = {port["name"]: port["containerPort"] for port in found.get("ports", ())}
        for name in ("readinessProbe", "livenessProbe"):
            ask = found[name]["httpGet"]
            yield f"{program} {name}", f"{ports.get(ask['port'], ask['port'])}{ask['path']}"


PROBES = dict(probes_of_manifests())


def probe(stage: str, where: str) -> str:
    def ask() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{where}", timeout=5) as answer:
            return str(answer.read().decode())

    return namespaces.inside(stage, ask)


class Said(NamedTuple):
    """Pages by program; what probes are told, by program and probe; what Prometheus says to each expression.

    The last is "success", or an error; without Prometheus there is nothing.
    """

    pages: dict[str, str]
    probes: dict[str, str]
    answers: dict[str, str]
    rules: list[dict[str, Any]]


async def both_at_work(stage: str, directory: Path) -> Said:
    """What is said in a cluster with Services, a pool, a link, and a router that is away."""
    server = apiserver.ApiServer()
    server.load([*OBJECTS, *read(EXAMPLE / "cluster.yaml"), *read(EXAMPLE / "service.yaml")])
    server.load(read(EXAMPLE / "pools.yaml"))
    router = {"myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.254", "bfdProfile": "one"}
    server.load([ours("BGPPeer", router), ours("BGPAdvertisement", {}), ours("BFDProfile", {})])
    await server.start([namespaces.listen_in(stage, "127.0.0.1", 0)])
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(apiserver.kubeconfig(server.url))
    more = ("--metrics-compat", "metallb")
    own = (*more, "--runtime-dir", str(directory / "run"))
    try:
        async with (
            running(stage, "Deployment", "controller", kubeconfig, *more),
            running(stage, "DaemonSet", "speaker", kubeconfig, *own),
            prometheus(stage, directory),
        ):
            await until(stage, "speaker", ["lbspeaker_ready 1.0", 'lbspeaker_ips{role="owner"} 1.0'])
            web, dns = read(EXAMPLE / "service.yaml")
            server.load([web | {"metadata": {"name": "late", "namespace": "default"}}, *LATE_ENDPOINTS])
            server.load([dns | {"metadata": dns["metadata"] | {"name": "waits"}}])  # its IP is taken
            await until(stage, "speaker", SPEAKER_HAS)
            await until(stage, "controller", CONTROLLER_HAS)
            pages = {name: await asyncio.to_thread(scrape, stage, PORTS[name]) for name in PORTS}
            probes = {name: await asyncio.to_thread(probe, stage, at) for name, at in PROBES.items()}
            return Said(pages, probes, *await heard_by_prometheus(stage))
    finally:
        await server.stop()


CONTROLLER_HAS = [
    'lbspeaker_services{state="allocated"} 3.0',
    'lbspeaker_refusals_total{reason="InUse"} 1.0',
    "lbspeaker_configuration_published 1.0",
]
SPEAKER_HAS = [
    'lbspeaker_ips{role="owner"} 2.0',
    'lbspeaker_announcement_seconds_count{protocol="layer2",since="creation"} 1.0',
    "lbspeaker_bgp_routes_desired{",
    "lbspeaker_bfd_up{",
    "lbspeaker_frames_sent_total{",
]
LATE_ENDPOINTS = [
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "late",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "late"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.12"], "nodeName": "node-a", "conditions": {"ready": True}}],
    }
]


async def until(stage: str, program: str, lines: list[str]) -> None:
    """Wait until the page of a program has all these lines, or beginnings of lines."""
    page = ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(25):
            while not all(f"\n{line}" in page for line in lines):
                await asyncio.sleep(0.2)
                with contextlib.suppress(OSError):
                    page = await asyncio.to_thread(scrape, stage, PORTS[program])
    missing = [line for line in lines if f"\n{line}" not in page]
    assert not missing, page


# --- a Prometheus of its own ----------------------------------------------------------------------------

API = "127.0.0.1:9090"


@asynccontextmanager
async def prometheus(stage: str, directory: Path) -> AsyncIterator[None]:
    """One that scrapes both programs each second, if it is installed."""
    if not PROMETHEUS:
        yield
        return
    config = directory / "prometheus.yaml"
    targets = {name: [f"127.0.0.1:{port}"] for name, port in PORTS.items()}
    jobs = [{"job_name": name, "static_configs": [{"targets": at}]} for name, at in targets.items()]
    often = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    rules = [str(MONITORING / "rules.yaml")]
    config.write_text(yaml.safe_dump({"global": often, "rule_files": rules, "scrape_configs": jobs}))
    argv = [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}"]
    argv += [f"--web.listen-address={API}", "--log.level=error"]
    process = await asyncio.create_subprocess_exec(*namespaces.command(stage, argv))
    try:
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)


def ask(stage: str, path: str) -> dict[str, Any]:
    """Ask the API of Prometheus; its errors are answers, too."""

    def fetch() -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://{API}/api/v1/{path}", timeout=10) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))

    return namespaces.inside(stage, fetch)


async def heard_by_prometheus(stage: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """What it says to each expression, and the rules as it has evaluated them."""
    if not PROMETHEUS:
        return {}, []

    def all_are_up() -> bool:
        found = ask(stage, "query?" + urllib.parse.urlencode({"query": "up == 1"}))
        return len(found["data"]["result"]) == len(PORTS)

    async with asyncio.timeout(20):
        while not await asyncio.to_thread(all_are_up):
            await asyncio.sleep(0.2)
        await asyncio.sleep(2.1)  # every rule was evaluated with both
    answers = {}
    for _, text in expressions():
        query = urllib.parse.urlencode({"query": text.replace("$__rate_interval", "10s")})
        said = await asyncio.to_thread(ask, stage, f"query?{query}")
        answers[text] = said.get("error", said["status"])
    groups = (await asyncio.to_thread(ask, stage, "rules"))["data"]["groups"]
    return answers, [rule for group in groups for rule in group["rules"]]


needs_prometheus = pytest.mark.skipif(not PROMETHEUS, reason="prometheus is not installed")

# --- what they say --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Said]:
    if obstacle := rootless.obstacle():
        pytest.skip(obstacle)
    with on_stage(STAGE) as stage:
        yield asyncio.run(both_at_work(stage, tmp_path_factory.mktemp("programs")))


@pytest.fixture
def pages(said: Said) -> dict[str, str]:
    return said.pages


def test_the_probes_of_the_manifests_are_answered(said: Said) -> None:
    assert said.probes == {
        f"{program} {probe}": told
        for program in PORTS
        for probe, told in (("readinessProbe", "ready\n"), ("livenessProbe", "alive\n"))
    }


@needs_prometheus
def test_prometheus_has_an_answer_to_every_panel(said: Said) -> None:
    """Also where it has to match the series of two metrics."""
    assert {text: told for text, told in said.answers.items() if told != "success"} == {}


@needs_prometheus
def test_prometheus_evaluates_every_rule(said: Said) -> None:
    assert [rule["name"] for rule in said.rules] == [alert["alert"] for alert in ALERTS]
    assert {rule["name"]: rule.get("lastError") for rule in said.rules if rule["health"] != "ok"} == {}
    waiting = {rule["name"] for rule in said.rules if rule["state"] != "inactive"}
    assert waiting == {"LbspeakerServicesPending", "LbspeakerBgpSessionDown"}, "as it is in this cluster"


def own(page: str) -> str:
    """A page without what is named as MetalLB names it."""
    return "".join(line for line in page.splitlines(keepends=True) if "metallb_" not in line)


def samples(pages: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    """The labels of all samples, by metric; one that is only described has none."""
    found: dict[str, list[dict[str, str]]] = {}
    for page in pages.values():
        for line in page.splitlines():
            if line.startswith("# TYPE"):
                found.setdefault(line.split()[2], [])
        for family in text_string_to_metric_families(page):
            for one in family.samples:
                found.setdefault(SUFFIX.sub("", one.name), []).append(one.labels)
    return found


@needs_promtool
@pytest.mark.parametrize("program", PORTS)
def test_prometheus_has_no_word_against_the_metrics(pages: dict[str, str], program: str) -> None:
    done = promtool("check", "metrics", given=own(pages[program]))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(("where", "text"), expressions())
def test_whatever_is_asked_for_is_said(pages: dict[str, str], where: str, text: str) -> None:
    said = samples(pages)
    assert names(text), text
    assert names(text) <= said.keys(), where
    for name, matchers in SELECTOR.findall(text):
        for label in re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers):
            rows = said[SUFFIX.sub("", name)]
            assert not rows or any(label in row for row in rows), f"{where}: {name} has no label {label}"
    known = {label for name in names(text) for row in said[name] for label in row}
    grouped = {label for group in GROUP.findall(text) for label in re.split(r"[,\s]+", group)}
    if all(said[name] for name in names(text)):
        assert grouped <= known | GIVEN, where


GIVEN = {"node", "instance", "hash"}  # by Prometheus, or by the expression itself


def test_what_has_samples_in_a_small_cluster(pages: dict[str, str]) -> None:
    """So the tests above look at labels of nearly everything."""
    asked = {name for _, text in expressions() for name in names(text)}
    assert {name for name in asked if not samples(pages)[name]} == {
        *("lbspeaker_address_conflict", "lbspeaker_bfd_packets_dropped_total"),
        *("lbspeaker_services_lacking", "lbspeaker_last_detection_seconds"),
    }


def test_both_follow_the_same_configuration_and_say_so(pages: dict[str, str]) -> None:
    pattern = re.compile(r"^lbspeaker_configuration_hash (\S+)$", re.MULTILINE)
    one, two = (pattern.findall(page) for page in pages.values())
    assert one == two
    assert len(one) == 1


def test_metallbs_names_are_there_if_they_are_wanted(pages: dict[str, str]) -> None:
    said = samples(pages)
    section = (ROOT / "docs/metallb.md").read_text().partition("\n## Metrics\n")[2]
    told = section.partition("\nNo equivalent")[0]
    rows = [line.split("|")[1] for line in told.splitlines() if line.startswith("| `")]
    assert len(rows) > 5
    for name in re.findall(r"`([a-z0-9_]+_[a-z0-9_]+)`", " ".join(rows)):
        assert said[f"metallb_{name}"], name
    for line in (
        'metallb_allocator_addresses_in_use_total{pool="lan"} 3.0',
        'metallb_bgp_session_up{peer="192.0.2.254:179"} 0.0',
        'ip="192.0.2.60",node="node-a",protocol="layer2",service="default/web"} 1.0',
    ):
        assert any(line in page for page in pages.values()), line
