"""What is for Prometheus and Grafana is right, and asks for nothing that the programs do not say."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from lbspeaker.lab import apiserver, namespaces, rootless
from lbspeaker.wire.metrics_controller import controller
from tests.test_manifests import CONFIG, EXAMPLE, OBJECTS, ROOT, container, on_stage, ours, read, running
from tests.wire.test_metrics import ACTING, MEASURES, speaker

STAGE = f"lbs-mon{os.getpid()}"
MONITORING = CONFIG / "monitoring"
RULES: dict[str, Any] = yaml.safe_load((MONITORING / "rules.yaml").read_text())
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed (Debian: prometheus)")


def promtool(*argv: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    words = [str(PROMTOOL), *map(str, argv)]
    return subprocess.run(words, input=given, capture_output=True, text=True, timeout=60, check=False)


def expressions() -> list[tuple[str, str]]:
    """Every question to Prometheus, after where it is asked."""
    asked = [(alert["alert"], alert["expr"]) for alert in ALERTS]
    return asked + [(panel["title"], one["expr"]) for panel in PANELS for one in panel["targets"]]


# --- as they are ----------------------------------------------------------------------------------------


def test_the_rules_of_the_operator_are_the_same() -> None:
    made = subprocess.run(
        [ROOT / ".ci/prometheusrule"],
        input=(MONITORING / "rules.yaml").read_text(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (MONITORING / "prometheusrule.yaml").read_text() == made, "run: make manifests"
    assert yaml.safe_load(made)["spec"] == RULES


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_says_what_is_wrong_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    assert f"`{alert['alert']}`" in (ROOT / "docs/operations.md").read_text()


def test_the_dashboard_needs_a_data_source_and_nothing_else() -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == (
        *("datasource", "datasource"),
        "prometheus",
    )
    assert "__inputs" not in DASHBOARD
    sources = [panel["datasource"]["uid"] for panel in PANELS]
    assert set(sources) == {"${datasource}"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_the_panels_do_not_cover_each_other() -> None:
    seen: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & seen, panel["title"]
        assert at["x"] + at["w"] <= 24
        seen |= cells


def described() -> set[str]:
    """Every metric that the programs have, without the prefix of all."""
    families = [*speaker(), *controller(MEASURES, ACTING)]
    full = {one.name + ("_total" if one.type == "counter" else "") for one in families}
    return {name.removeprefix("lbspeaker_") for name in full}


def test_operators_find_every_metric_and_no_other() -> None:
    section = (ROOT / "docs/operations.md").read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)} - {"lbspeaker_"}
    assert told == described()


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_the_component_lets_the_operator_reach_both_programs(tmp_path: Path) -> None:
    above = os.path.relpath(CONFIG, tmp_path)
    overlay = {"resources": [above], "components": [f"{above}/monitoring"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    done = subprocess.run(
        ["kubectl", "kustomize", tmp_path], capture_output=True, text=True, timeout=60, check=True
    )
    objects = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
    (endpoint,) = objects["PodMonitor", "lbspeaker"]["spec"]["podMetricsEndpoints"]
    for which in (("Deployment", "controller"), ("DaemonSet", "speaker")):
        template = objects[which]["spec"]["template"]
        chosen = objects["PodMonitor", "lbspeaker"]["spec"]["selector"]["matchLabels"].items()
        assert chosen <= template["metadata"]["labels"].items()
        (found,) = template["spec"]["containers"]
        (port,) = found["ports"]
        assert port["name"] == endpoint["port"]
        assert found["args"][-1].removeprefix("--metrics=") == f":{port['containerPort']}", "all addresses"
    assert json.loads(objects["ConfigMap", "lbspeaker-dashboard"]["data"]["lbspeaker.json"]) == DASHBOARD


# --- promtool -------------------------------------------------------------------------------------------


@needs_promtool
def test_prometheus_takes_the_rules() -> None:
    done = promtool("check", "rules", MONITORING / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


@needs_promtool
def test_prometheus_understands_every_panel(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "5m")}
        for number, (_, text) in enumerate(expressions())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


WELL = {
    'lbspeaker_build_info{program="speaker"}': "1x60",
    "lbspeaker_members_lost": "0x60",
    'lbspeaker_unannounced{reason="NoEndpoint"}': "3x60",
    'lbspeaker_bgp_up{peer="r",address="192.0.2.1",instance="a"}': "1x60",
    'lbspeaker_bgp_routes{peer="r",address="192.0.2.1",instance="a"}': "4x60",
    'lbspeaker_bgp_routes_desired{peer="r",address="192.0.2.1",instance="a"}': "4x60",
    'lbspeaker_leader{instance="one"}': "1x60",
    'lbspeaker_leader{instance="two"}': "0x60",
    'lbspeaker_pool_used{pool="lan",family="4"}': "9x60",
    'lbspeaker_pool_size{pool="lan",family="4"}': "10x60",
    'lbspeaker_configuration_objects{verdict="refused"}': "0x60",
    'lbspeaker_configuration_hash{instance="a"}': "281474976710655x60",
    'lbspeaker_configuration_hash{instance="b"}': "281474976710655x60",
    'lbspeaker_api_silent_seconds{instance="a"}': "1x60",
    'lbspeaker_storms_total{link="eth0",instance="a"}': "7x60",
    'lbspeaker_child_restarts_total{child="answerer",instance="a"}': "1x60",
}
BAD = {
    "LbspeakerSpeakersAbsent": {'lbspeaker_build_info{program="speaker"}': "_x60"},
    "LbspeakerMemberLost": {"lbspeaker_members_lost": "1x60"},
    "LbspeakerUnannounced": {'lbspeaker_unannounced{reason="NoNodeLink"}': "1x60"},
    "LbspeakerAddressConflict": {
        'lbspeaker_address_conflict{ip="192.0.2.9",mac="02::1",vendor="Acme"}': "1x60"
    },
    "LbspeakerBgpSessionDown": {'lbspeaker_bgp_up{peer="r",address="192.0.2.1",instance="a"}': "0x60"},
    "LbspeakerBgpRoutesMissing": {'lbspeaker_bgp_routes{peer="r",address="192.0.2.1",instance="a"}': "3x60"},
    "LbspeakerNoLeader": {'lbspeaker_leader{instance="one"}': "0x60"},
    "LbspeakerServicesPending": {'lbspeaker_services_pending{reason="PoolExhausted"}': "2x60"},
    "LbspeakerPoolNearlyFull": {'lbspeaker_pool_used{pool="lan",family="4"}': "10x60"},
    "LbspeakerConfigurationRefused": {'lbspeaker_configuration_objects{verdict="refused"}': "1x60"},
    "LbspeakerConfigurationDiffers": {'lbspeaker_configuration_hash{instance="b"}': "281474976710654x60"},
    "LbspeakerApiSilent": {'lbspeaker_api_silent_seconds{instance="a"}': "100+60x60"},
    "LbspeakerStorm": {'lbspeaker_storms_total{link="eth0",instance="a"}': "7x54 8x6"},
    "LbspeakerAnswererEnds": {
        'lbspeaker_child_restarts_total{child="answerer",instance="a"}': "1x50 2x4 4x6"
    },
}


def fires(series: dict[str, str]) -> dict[str, Any]:
    """A test of rules (promtool): after an hour of `series`, with one value a minute, each alert is asked."""
    found = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": "1m", "input_series": found}


@needs_promtool
def test_an_alert_fires_when_it_should_and_all_is_quiet_when_all_is_well(tmp_path: Path) -> None:
    assert BAD.keys() == {alert["alert"] for alert in ALERTS}
    (tmp_path / "rules.yaml").write_text((MONITORING / "rules.yaml").read_text())
    quiet = [{"eval_time": "1h", "alertname": name, "exp_alerts": []} for name in BAD]
    tests = [fires(WELL) | {"alert_rule_test": quiet}]
    tests += [
        fires(WELL | series)
        | {"promql_expr_test": [{"expr": firing(name), "eval_time": "1h", "exp_samples": [{"value": 1}]}]}
        for name, series in BAD.items()
    ]
    told = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(told))
    done = promtool("test", "rules", tmp_path / "tests.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def firing(name: str) -> str:
    return f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'


# --- what the programs say ------------------------------------------------------------------------------

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


async def both_at_work(stage: str, directory: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The pages of both programs in a cluster with Services, a pool, a link, and a router that is away.

    And what probes are told, by program and probe.
    """
    server = apiserver.ApiServer()
    server.load([*OBJECTS, *read(EXAMPLE / "cluster.yaml"), *read(EXAMPLE / "service.yaml")])
    server.load(read(EXAMPLE / "pools.yaml"))
    router = {"myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.254", "bfdProfile": "one"}
    server.load([ours("BGPPeer", router), ours("BGPAdvertisement", {}), ours("BFDProfile", {})])
    server.load([ours("BGPAdvertisement", {"ipAddressPools": ["nowhere"], "peers": ["nobody"]})])
    await server.start([namespaces.listen_in(stage, "127.0.0.1", 0)])
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(apiserver.kubeconfig(server.url))
    more = ("--metrics-compat", "metallb")
    try:
        async with (
            running(stage, "Deployment", "controller", kubeconfig, *more),
            running(
                stage, "DaemonSet", "speaker", kubeconfig, "--runtime-dir", str(directory / "run"), *more
            ),
        ):
            await until(stage, "speaker", ["lbspeaker_ready 1.0", 'lbspeaker_ips{role="owner"} 1.0'])
            web, dns = read(EXAMPLE / "service.yaml")
            server.load([web | {"metadata": {"name": "late", "namespace": "default"}}, *LATE_ENDPOINTS])
            server.load([dns | {"metadata": dns["metadata"] | {"name": "waits"}}])  # its IP is taken
            await until(stage, "speaker", SPEAKER_HAS)
            await until(stage, "controller", CONTROLLER_HAS)
            pages = {name: await asyncio.to_thread(scrape, stage, PORTS[name]) for name in PORTS}
            probes = {name: await asyncio.to_thread(probe, stage, at) for name, at in PROBES.items()}
            return pages, probes
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


Said = tuple[dict[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Said]:
    """What a controller and a speaker say: pages by program, and what probes are told."""
    if obstacle := rootless.obstacle():
        pytest.skip(obstacle)
    with on_stage(STAGE) as stage:
        yield asyncio.run(both_at_work(stage, tmp_path_factory.mktemp("programs")))


@pytest.fixture
def pages(said: Said) -> dict[str, str]:
    return said[0]


@pytest.mark.lab
def test_the_probes_of_the_manifests_are_answered(said: Said) -> None:
    assert {path: text for path, text in said[1].items() if "liveness" in path} == {
        "controller livenessProbe": "alive\n",
        "speaker livenessProbe": "alive\n",
    }
    assert {text for path, text in said[1].items() if "readiness" in path} == {"ready\n"}


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


@pytest.mark.lab
@needs_promtool
@pytest.mark.parametrize("program", PORTS)
def test_prometheus_has_no_word_against_the_metrics(pages: dict[str, str], program: str) -> None:
    done = promtool("check", "metrics", given=own(pages[program]))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.lab
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


@pytest.mark.lab
def test_what_has_samples_in_a_small_cluster(pages: dict[str, str]) -> None:
    """So the tests above look at labels of nearly everything."""
    asked = {name for _, text in expressions() for name in names(text)}
    assert {name for name in asked if not samples(pages)[name]} == {
        *("lbspeaker_address_conflict", "lbspeaker_bfd_packets_dropped_total"),
        *("lbspeaker_services_lacking", "lbspeaker_last_detection_seconds"),
    }


@pytest.mark.lab
def test_both_follow_the_same_configuration_and_say_so(pages: dict[str, str]) -> None:
    lines = [
        re.findall(r"^lbspeaker_configuration_hash (\S+)$", page, re.MULTILINE) for page in pages.values()
    ]
    assert len(lines[0]) == 1
    assert lines[0] == lines[1]


@pytest.mark.lab
def test_metallbs_names_are_there_if_they_are_wanted(pages: dict[str, str]) -> None:
    said = samples(pages)
    told = (
        (ROOT / "docs/metallb.md").read_text().partition("\n## Metrics\n")[2].partition("\nNo equivalent")[0]
    )
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
