"""A speaker that announces by BGP alone: nobody in particular, without any capability."""

import signal
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.peers.conftest import NODE_AS, NODE_IP, ROUTER_AS, ROUTER_IP, Frr, Seen, Segment, eventually, run

pytestmark = pytest.mark.peers

POWERLESS = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
CONFIGURATION = f"""
apiVersion: lbspeaker.io/v1beta1
kind: IPAddressPool
metadata: {{name: both, namespace: lbspeaker-system}}
spec: {{addresses: [10.99.0.50-10.99.0.60]}}
---
apiVersion: lbspeaker.io/v1beta1
kind: L2Advertisement
metadata: {{name: both, namespace: lbspeaker-system}}
---
apiVersion: lbspeaker.io/v1beta1
kind: BGPAdvertisement
metadata: {{name: both, namespace: lbspeaker-system}}
---
apiVersion: lbspeaker.io/v1beta1
kind: BGPPeer
metadata: {{name: router, namespace: lbspeaker-system}}
spec: {{myASN: {NODE_AS}, peerASN: {ROUTER_AS}, peerAddress: {ROUTER_IP}, holdTime: 9s}}
---
apiVersion: v1
kind: Node
metadata: {{name: node-a}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: [{{addresses: [10.244.0.10], nodeName: node-a, conditions: {{ready: true}}}}]
ports: [{{port: 80}}]
"""


def test_it_announces_without_a_power_and_opens_no_packet_socket(
    frr: Frr, segment: Segment, tmp_path: Path
) -> None:
    frr.start()
    (tmp_path / "config").mkdir()
    (tmp_path / "config/all.yaml").write_text(CONFIGURATION)
    argv = [*POWERLESS, sys.executable, "-m", "lbspeaker", "speaker", "--no-layer2", "--node", "node-a"]
    argv += ["--config", str(tmp_path / "config"), "--runtime-dir", str(tmp_path / "run")]
    with (tmp_path / "log").open("wb") as log:
        speaker = subprocess.Popen(segment.command(segment.node, *argv), stdout=log, stderr=log)
    try:
        route = {ip_network("10.99.0.50/32"): Seen(NODE_IP)}
        assert eventually(lambda: frr.table() == route, 15), (frr.table(), (tmp_path / "log").read_text())
        opened = run(*segment.command(segment.node, "cat", "/proc/net/packet")).stdout
        assert len(opened.splitlines()) == 1, opened  # what its columns are
    finally:
        speaker.send_signal(signal.SIGTERM)
        code = speaker.wait(20)
    said = (tmp_path / "log").read_text()
    assert code == 0, said
    assert "claimed" not in said
    assert "SYS_NICE" not in said
