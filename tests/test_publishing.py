"""What the controller writes to configuration objects when the server says no."""

import asyncio
import json

from structlog.testing import capture_logs

from lbspeaker.config.crds import crds
from lbspeaker.core.objects import Protect, Report
from lbspeaker.model import Condition, ObjectStatus, Written
from lbspeaker.publishing import Publishing
from tests.shell.cluster import served, until

BASE = "/apis/lbspeaker.io/v1beta1/namespaces/default/l2advertisements"
DOCUMENT = {"apiVersion": "lbspeaker.io/v1beta1", "kind": "L2Advertisement", "metadata": {"name": "lan"}}
STATUS = ObjectStatus((Condition("Accepted", "True", "Accepted", "in force", 1),))


def test_it_tries_again_later_and_later_and_says_so_once() -> None:
    async def play() -> None:
        async with served() as (server, api):
            server.load(crds())
            await api.request("POST", BASE, body=json.dumps(DOCUMENT).encode())
            server.fail(3, 403, path="/status")
            report = Report(Written("L2Advertisement/lan", DOCUMENT), STATUS)
            publishing: Publishing

            def failed(effect: Report | Protect) -> None:
                publishing.report(effect)

            publishing = Publishing(api, "default", failed)
            publishing.report(report)
            running = asyncio.create_task(publishing.run())
            began = asyncio.get_running_loop().time()

            def tries() -> int:
                return server.requests[f"PATCH {BASE}/lan/status"]

            await until(lambda: tries() == 4, 10)
            assert asyncio.get_running_loop().time() - began > 3.0, "0.5 s, 1 s, 2 s"
            await asyncio.sleep(0.2)
            running.cancel()
            found = json.loads(await api.request("GET", f"{BASE}/lan"))
            assert found["status"]["conditions"][0]["message"] == "in force"

    with capture_logs() as logs:
        asyncio.run(play())
    assert [line["event"] for line in logs] == ["unreported"]
