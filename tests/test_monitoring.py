"""What is for Prometheus and Grafana: rules, a dashboard, a component. Whether the programs say what it asks
for is in test_scraping.py.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from lbspeaker.wire.metrics_controller import controller
from tests.test_manifests import CONFIG, ROOT
from tests.wire.test_metrics import ACTING, MEASURES, speaker

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
        words = " ".join(found["args"]).replace("=", " ").split()
        *_, (_, at) = [two for two in pairwise(words) if two[0] == "--metrics"]  # the last one counts
        assert at == f":{port['containerPort']}", "all addresses"
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
