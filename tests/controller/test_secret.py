"""The Secret by which speakers know each other's hellos: there, of itself, and never changed."""

import base64

import pytest

from tests.controller.conftest import SYSTEM, Cluster, wait_for
from tests.lab.apiserver_backends import Json

pytestmark = pytest.mark.timeout(90)

SECRETS = f"/api/v1/namespaces/{SYSTEM}/secrets"
SECRET = f"{SECRETS}/lbspeaker-hello"


def there(cluster: Cluster) -> Json | None:
    answer = cluster.client.ask("GET", SECRET)
    return answer.json if answer.status == 200 else None


def test_the_controller_makes_it_and_keeps_it_to_itself(cluster: Cluster) -> None:
    assert there(cluster) is None
    first = cluster.controller().says("serving")
    wait_for(lambda: there(cluster), "the Secret is made")
    made = there(cluster)
    assert made
    password = base64.b64decode(made["data"]["password"]).decode()
    assert len(base64.b64decode(password, validate=True)) == 32
    assert made["type"] == "kubernetes.io/basic-auth"
    assert first.end() == 0
    second = cluster.controller().says("serving")
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.9"])
    wait_for(lambda: cluster.published() == {"IPAddressPool/lan"}, "it works on")
    assert there(cluster) == made, "another turn changes nothing"
    for one in (first, second):
        assert password not in one.log
        assert made["data"]["password"] not in one.log
        assert "hello-secret" not in one.log


def test_one_that_somebody_made_before_stays_as_it_is(cluster: Cluster) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "lbspeaker-hello", "labels": {"made-by": "hand"}},
        "type": "kubernetes.io/basic-auth",
        "stringData": {"username": "somebody", "password": "of my own"},
    }
    mine = cluster.client.good("POST", SECRETS, body)
    cluster.controller().says("serving")
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.9"])
    wait_for(lambda: cluster.published() == {"IPAddressPool/lan"}, "it works")
    assert there(cluster) == mine
