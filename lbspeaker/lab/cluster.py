"""What a cluster has besides us, played by one process: nodes, pods, EndpointSlices, kube-proxy.

It registers the lab's Nodes and their Pods, keeps the EndpointSlices of all Services that select Pods, and
gives every node its nftables ruleset. Pods are read back from the API: one that is deleted, or whose labels
or readiness change, changes the slices and the rules as it would in a real cluster.

    python -m lbspeaker.lab.cluster --kubeconfig FILE --lab NAME --nodes N [--crds FILE]

It runs where it may enter the namespaces of the nodes, and prints "ready" when all of this is in place.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml

from lbspeaker.errors import LbspeakerError, Unable, Unavailable
from lbspeaker.lab import namespaces, objects, proxy
from lbspeaker.lab.objects import Manifest, Pod, Service
from lbspeaker.lab.topology import LabNode, Topology, topology
from lbspeaker.model import Change, Kind, Lease, Synced
from lbspeaker.shell.apiserver import ApiServer, Resource, credentials
from lbspeaker.wire import kube

NAMESPACE = "lbspeaker-system"

_APPLY = {"fieldManager": "lab", "force": "true"}
_APPLY_TYPE = "application/apply-patch+yaml"
_SETTLE_S = 0.01  # changes that come together are acted upon together
_PATIENCE_S = 30.0  # for an API server that is still starting
_RETRY_S = 1.0


class Cluster:
    """The stand-ins of one lab: two reflections in, EndpointSlices and rulesets out."""

    def __init__(self, api: ApiServer, lab: Topology) -> None:
        self._api = api
        self._lab = lab
        self._services: dict[str, Service] = {}
        self._pods: dict[str, Pod] = {}
        self._unsynced = {Kind.SERVICE, Kind.POD}
        self._slices: dict[str, dict[str, Manifest]] = {}  # by service, by name: as last written
        self._stale: set[str] = set()  # services whose slices may have to be written
        self._slices_due = asyncio.Event()
        self._rules_due = asyncio.Event()
        self._rules: dict[str, str] = {}  # by node, as last applied
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Register nodes and pods, then follow the API until cancelled. Raises ApiError at the start."""
        await self._register()
        await self._adopt()
        async with asyncio.TaskGroup() as tasks:
            for kind, struct, path in (
                (Kind.SERVICE, Service, "/api/v1/services"),
                (Kind.POD, Pod, "/api/v1/pods"),
            ):
                resource = Resource(kind, path, *objects.decoders(kind, struct))
                tasks.create_task(self._api.reflect(resource, self._observe))
            tasks.create_task(self._write_slices())
            tasks.create_task(self._apply_rules())

    async def apply(self, manifest: Manifest, path: str) -> None:
        """Create or update an object by server-side apply, and then its status. Raises ApiError.

        The status goes as a merge-patch: to an apply, two addresses of one type would be the same entry.
        """
        body = msgspec.json.encode({key: value for key, value in manifest.items() if key != "status"})
        await self._api.request("PATCH", path, query=_APPLY, body=body, content_type=_APPLY_TYPE)
        if "status" in manifest:
            status = msgspec.json.encode({"status": manifest["status"]})
            await self._api.request("PATCH", f"{path}/status", body=status)

    async def _register(self) -> None:
        kernel = os.uname().release
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        await self.apply(space, f"/api/v1/namespaces/{NAMESPACE}")
        for node in self._lab.nodes:
            await self.apply(objects.node_manifest(node, kernel), f"/api/v1/nodes/{node.name}")
            pod = f"/api/v1/namespaces/default/pods/{objects.pod_name(node)}"
            await self.apply(objects.pod_manifest(node), pod)

    async def _adopt(self) -> None:
        """Learn which slices are there from an earlier run, so that they are kept right or removed."""
        query = {"labelSelector": f"endpointslice.kubernetes.io/managed-by={objects.MANAGER}"}
        body = await self._api.request("GET", "/apis/discovery.k8s.io/v1/endpointslices", query=query)
        for found in msgspec.json.decode(body)["items"]:
            metadata = found["metadata"]
            service = f"{metadata['namespace']}/{metadata['labels']['kubernetes.io/service-name']}"
            self._slices.setdefault(service, {})[metadata["name"]] = {}
            self._stale.add(service)

    def _observe(self, change: Change | Synced) -> None:
        if isinstance(change, Synced):
            self._unsynced.discard(change.kind)
        elif change.kind is Kind.POD:
            _set(self._pods, change)
            self._stale |= self._services.keys()
        else:
            _set(self._services, change)
            self._stale.add(change.key)
        if not self._unsynced:
            self._slices_due.set()
            self._rules_due.set()

    # --- EndpointSlices ---------------------------------------------------------------------------------

    async def _write_slices(self) -> None:
        while True:
            await self._slices_due.wait()
            await asyncio.sleep(_SETTLE_S)
            self._slices_due.clear()
            stale, self._stale = self._stale, set()
            results = await asyncio.gather(*(self._write_slices_of(key) for key in sorted(stale)))
            if not all(results):
                await asyncio.sleep(_RETRY_S)
                self._slices_due.set()

    async def _write_slices_of(self, key: str) -> bool:
        """Bring the slices of one Service up to date; False if the API server did not let us."""
        service = self._services.get(key)
        written = self._slices.setdefault(key, {})
        wanted = dict(objects.endpoint_slices(service, self._pods.values())) if service else {}
        path = f"/apis/discovery.k8s.io/v1/namespaces/{key.partition('/')[0]}/endpointslices"
        try:
            for name, manifest in wanted.items():
                # a Service that never selected a pod needs no slice; one whose pods are gone, an empty one
                if written.get(name) != manifest and (manifest["endpoints"] or name in written):
                    await self.apply(manifest, f"{path}/{name}")
                    written[name] = manifest
            for name in written.keys() - wanted.keys():
                await self._delete(f"{path}/{name}")
                del written[name]
        except Unavailable as error:
            print(f"EndpointSlices of {key}: {error}; again in {_RETRY_S:.0f} s", flush=True)
            self._stale.add(key)
            return False
        if not written:
            del self._slices[key]
        return True

    async def _delete(self, path: str) -> None:
        try:
            await self._api.request("DELETE", path)
        except Unavailable as error:
            if getattr(error, "status", 0) != 404:
                raise

    # --- kube-proxy -------------------------------------------------------------------------------------

    async def _apply_rules(self) -> None:
        rested_at = 0.0
        while True:
            await self._rules_due.wait()
            await asyncio.sleep(max(_SETTLE_S, rested_at - time.monotonic()))
            self._rules_due.clear()
            began = time.monotonic()
            rules = self._wanted_rules()
            await asyncio.gather(*(self._apply_rules_of(node, rules[node.name]) for node in self._lab.nodes))
            self.ready.set()
            ended = time.monotonic()
            # with thousands of Services a pass costs; then passes become rarer, and leave the core to others
            rested_at = ended + 2 * (ended - began)

    def _wanted_rules(self) -> dict[str, str]:
        fronts = proxy.frontends(self._services.values(), list(self._pods.values()))
        ips = [ip for service in self._services.values() for ip in service.service_ips]
        return {node.name: proxy.ruleset(node.name, fronts, ips) for node in self._lab.nodes}

    async def _apply_rules_of(self, node: LabNode, rules: str) -> None:
        if self._rules.get(node.name) == rules:
            return
        try:
            await asyncio.to_thread(give_rules, self._lab.namespace(node.name), rules)
        except Unable as error:
            print(error, flush=True)
            return
        self._rules[node.name] = rules


async def leases(kubeconfig: Path) -> set[str]:
    """Return the nodes whose speakers take part in elections, as their Leases say. Raises ApiError."""
    async with ApiServer(credentials(str(kubeconfig)), "lab") as api:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
        page = kube.codec(Kind.LEASE).page(await api.request("GET", path))
    found = (change.value for change in page.changes)
    return {lease.node for lease in found if isinstance(lease, Lease) and not lease.draining}


def give_rules(namespace: str, rules: str) -> None:
    """Let `nft` replace our table inside the namespace. Raises Unable with what it said."""

    def nft() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True, check=False)

    done = namespaces.inside(namespace, nft)
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise Unable(f"nftables in {namespace}: {said}", "does the kernel have nf_tables and NAT?")


def _set(known: dict[str, Any], change: Change) -> None:
    if change.value is None:
        known.pop(change.key, None)
    else:
        known[change.key] = change.value


async def _serve(options: argparse.Namespace) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    async with ApiServer(credentials(options.kubeconfig), "lab") as api:
        cluster = Cluster(api, topology(options.lab, options.nodes))
        await _wait_for_server(api)
        if options.crds:
            for crd in yaml.safe_load_all(options.crds.read_text()):
                path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
                await cluster.apply(crd, path)
        running = loop.create_task(cluster.run())
        stopped, ready = loop.create_task(stop.wait()), loop.create_task(cluster.ready.wait())
        await asyncio.wait({running, stopped, ready}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            print("ready", flush=True)
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def _wait_for_server(api: ApiServer) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            await api.request("GET", "/version")
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def main() -> None:
    parser = argparse.ArgumentParser(prog="lbspeaker.lab.cluster")
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--lab", required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--crds", type=Path)
    options = parser.parse_args()
    try:
        asyncio.run(_serve(options))
    except LbspeakerError as error:
        sys.exit(f"lab: {error}")


if __name__ == "__main__":
    main()
