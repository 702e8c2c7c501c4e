"""What one deploys: it can be applied, and it grants the programs what they ask for, and nothing else."""

import asyncio
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import pytest
import yaml
from aiohttp import web

from lbspeaker import __version__
from lbspeaker.config import crds
from lbspeaker.lab import api_request, apiserver, namespaces, rootless

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
NAMESPACE = "lbspeaker-system"
STAGE = f"lbs-rbac{os.getpid()}"
EXAMPLE = ROOT / "examples/layer2"

Object = dict[str, Any]


def read(path: Path) -> list[Object]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def rendered(overlay: str = "") -> str:
    """What `kubectl apply -k config/OVERLAY` applies."""
    argv = ["kubectl", "kustomize", CONFIG / overlay]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


ONE_FILE = CONFIG / "lbspeaker.yaml"
OBJECTS = read(ONE_FILE)
needs_kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")


def the(kind: str, name: str, objects: list[Object] = OBJECTS) -> Object:
    return next(one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))


def container(kind: str, name: str, objects: list[Object] = OBJECTS) -> Object:
    found: Object = the(kind, name, objects)["spec"]["template"]["spec"]["containers"][0]
    return found


# --- what is there --------------------------------------------------------------------------------------


def test_an_api_server_takes_all_of_it() -> None:
    server = apiserver.ApiServer()
    server.load(OBJECTS)
    for one in OBJECTS:
        resource = server.registry.catalog.by_kind(one["apiVersion"], one["kind"])
        assert resource is not None
        server.registry.get(resource, one["metadata"].get("namespace", ""), one["metadata"]["name"])


def test_the_crds_are_those_that_the_code_makes() -> None:
    assert (CONFIG / "base/crds.yaml").read_text() == crds.text(), "run: make manifests"


def test_every_file_of_the_base_is_applied() -> None:
    listed = yaml.safe_load((CONFIG / "base/kustomization.yaml").read_text())["resources"]
    assert {path.name for path in (CONFIG / "base").glob("*.yaml")} == {*listed, "kustomization.yaml"}


@needs_kubectl
def test_the_one_file_has_all_that_kustomize_makes() -> None:
    assert ONE_FILE.read_text().partition("\n")[2] == rendered(), "run: make manifests"


@needs_kubectl
def test_the_chart_is_made_of_what_kustomize_makes() -> None:
    made = runpy.run_path(str(ROOT / ".ci/chart"))["files"]()
    assert {name: (CONFIG / "chart/templates" / name).read_text() for name in made} == made, (
        "run: make manifests"
    )
    assert f"appVersion: {__version__}" in (CONFIG / "chart/Chart.yaml").read_text()
    assert (CONFIG / "chart/crds/crds.yaml").resolve() == CONFIG / "base/crds.yaml"


@needs_kubectl
@pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed")
@pytest.mark.parametrize(("mode", "overlay"), [("both", ""), ("layer2", "layer2"), ("bgp", "bgp")])
def test_helm_installs_what_kustomize_installs(mode: str, overlay: str) -> None:
    argv = [
        "helm",
        "template",
        "lbspeaker",
        CONFIG / "chart",
        "--namespace",
        NAMESPACE,
        "--set",
        f"mode={mode}",
    ]
    argv += ["--kube-version", "1.33.0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)

    def key(one: Object) -> tuple[str, str]:
        return one["kind"], one["metadata"]["name"]

    wanted = [one for one in yaml.safe_load_all(rendered(overlay)) if one["kind"] not in OF_THE_CLUSTER]
    for one in wanted:
        if one["kind"] in {"DaemonSet", "Deployment"}:
            one["spec"]["template"]["spec"]["containers"][0]["args"].append(f"--namespace={NAMESPACE}")
    found = [one for one in yaml.safe_load_all(done.stdout) if one]
    assert sorted(found, key=key) == sorted(wanted, key=key)


OF_THE_CLUSTER = {"CustomResourceDefinition", "Namespace"}  # Helm has other ways for them
OVERLAYS = {"": ["NET_RAW", "SYS_NICE"], "layer2": ["NET_RAW"], "bgp": []}


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_programs_hold_no_power_that_they_do_not_need(overlay: str) -> None:
    objects = [document for document in yaml.safe_load_all(rendered(overlay)) if document]
    assert [one["metadata"] for one in objects] == [one["metadata"] for one in OBJECTS]
    for kind, name, powers in (("Deployment", "controller", []), ("DaemonSet", "speaker", OVERLAYS[overlay])):
        context = container(kind, name, objects)["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]} | ({"add": powers} if powers else {})
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        pod = the(kind, name, objects)["spec"]["template"]["spec"]["securityContext"]
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert bool(context.get("runAsUser", pod.get("runAsUser"))) == (powers == [])


def test_what_guards_the_controller_is_about_its_pods() -> None:
    labels = the("Deployment", "controller")["spec"]["template"]["metadata"]["labels"]
    for kind, selector in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert the(kind, "controller")["spec"][selector]["matchLabels"].items() <= labels.items()
    ports = container("Deployment", "controller")["ports"]
    (rule,) = the("NetworkPolicy", "controller")["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [port["containerPort"] for port in ports]


def test_every_binding_gives_a_role_that_exists_to_an_account_that_exists() -> None:
    names = {(one["kind"], one["metadata"]["name"]) for one in OBJECTS}
    for one in OBJECTS:
        if one["kind"].endswith("Binding"):
            assert (one["roleRef"]["kind"], one["roleRef"]["name"]) in names
            assert all((subject["kind"], subject["name"]) in names for subject in one["subjects"])


# --- what is granted, and what is asked -----------------------------------------------------------------


class Right(NamedTuple):
    """`resource` is like "services/status"; `namespace` is empty for the whole cluster."""

    verb: str
    group: str
    resource: str
    namespace: str

    def allows(self, asked: "Right") -> bool:
        return self[:3] == asked[:3] and self.namespace in ("", asked.namespace)


def granted(account: str) -> set[Right]:
    rights = set()
    for binding in OBJECTS:
        if not binding["kind"].endswith("Binding") or account not in [s["name"] for s in binding["subjects"]]:
            continue
        role = the(binding["roleRef"]["kind"], binding["roleRef"]["name"])
        namespace = "" if binding["kind"] == "ClusterRoleBinding" else NAMESPACE
        rights |= {
            Right(verb, group, resource, namespace)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
    return rights


NOWHERE = [{"matchLabels": {"there": "is-no-such-node"}}]


def ours(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "one", "namespace": NAMESPACE}
    return {"apiVersion": "lbspeaker.io/v1beta1", "kind": kind, "metadata": metadata, "spec": spec}


ONE_OF_EACH = [
    ours(
        "BGPPeer", {"myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.254", "nodeSelectors": NOWHERE}
    ),
    ours("BGPAdvertisement", {"ipAddressPools": ["nowhere"]}),
    ours("LinkPolicy", {"nodeSelectors": NOWHERE}),
    ours("BFDProfile", {}),
    ours("Community", {"communities": [{"name": "one", "value": "64512:1"}]}),
]


class Record:
    """Writes down what each program asks of a server: {"controller": rights, "speaker": rights}."""

    def __init__(self, server: apiserver.ApiServer) -> None:
        self.asked: dict[str, set[Right]] = {"controller": set(), "speaker": set()}
        self._server = server
        self._answer: Callable[[web.BaseRequest], Any] = server._front
        server._front = self  # type: ignore[assignment]  # a reader over the shoulder, for this test alone

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        program = request.headers["User-Agent"].rpartition("(")[2].rstrip(")").replace("page", "controller")
        target = api_request.parse_target(request.path, self._server.registry.catalog)
        if program in self.asked and target is not None:
            resource = target.resource.plural + ("/status" if target.status else "")
            right = Right(_verb(request, target), target.resource.group, resource, target.namespace)
            self.asked[program].add(right)
        response: web.StreamResponse = await self._answer(request)
        return response

    async def until(self, program: str, verb: str, resource: str) -> None:
        async with asyncio.timeout(30):
            while (verb, resource) not in {(right.verb, right.resource) for right in self.asked[program]}:
                await asyncio.sleep(0.02)


def _verb(request: web.BaseRequest, target: api_request.Target) -> str:
    if request.method != "GET":
        return {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}[request.method]
    if target.name:
        return "get"
    return "watch" if api_request.is_watch(request.query) else "list"


@contextmanager
def on_stage(name: str) -> Iterator[str]:
    """A network namespace with one link, eth0, on the segment of the example."""
    try:
        namespaces.add([name])
        namespaces.configure(
            name,
            [
                "link add eth0 type veth peer name far",
                "address add 192.0.2.1/24 dev eth0",
                "link set eth0 up",
                "link set far up",
            ],
        )
        yield name
    finally:
        namespaces.remove([name])


@pytest.fixture
def stage() -> Iterator[str]:
    with on_stage(STAGE) as made:
        yield made


@asynccontextmanager
async def running(
    stage: str, kind: str, name: str, kubeconfig: Path, *more: str, objects: list[Object] = OBJECTS
) -> AsyncIterator[Any]:
    """A program as its manifest starts it: with these arguments, and with these capabilities only."""
    spec = container(kind, name, objects)
    powers = [f"+{power.lower()}" for power in spec["securityContext"]["capabilities"].get("add", [])]
    confined = ["setpriv", "--no-new-privs", f"--bounding-set={','.join(['-all', *powers])}"]
    argv = [sys.executable, "-m", "lbspeaker", *spec["args"], "--kubeconfig", str(kubeconfig), *more]
    process = await asyncio.create_subprocess_exec(
        *namespaces.command(stage, [*confined, *argv]), env=os.environ | {"NODE_NAME": "node-a"}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 20)


def read_page() -> bytes:
    with urlopen("http://127.0.0.1:7475", timeout=20) as answer:
        return bytes(answer.read())


async def ask_for_everything(stage: str, directory: Path) -> Record:
    """Have both programs do, once, all that they ever do at the API server."""
    server = apiserver.ApiServer()
    server.load([*OBJECTS, *read(EXAMPLE / "cluster.yaml"), *read(EXAMPLE / "service.yaml")])
    server.load(read(EXAMPLE / "pools.yaml"))
    server.load(ONE_OF_EACH)
    record = Record(server)
    await server.start([namespaces.listen_in(stage, "127.0.0.1", 0)])
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(apiserver.kubeconfig(server.url))
    runtime = ("--runtime-dir", str(directory / "run"))
    try:
        async with (
            running(stage, "Deployment", "controller", kubeconfig),
            running(stage, "DaemonSet", "speaker", kubeconfig, *runtime) as speaker,
        ):
            await record.until("controller", "create", "events")
            await record.until("controller", "patch", "communities/status")
            await record.until("controller", "patch", "effectiveconfigurations/status")
            await record.until("controller", "patch", "ipaddresspools")
            await record.until("controller", "update", "leases")
            await record.until("controller", "create", "secrets")
            assert b"node-a" in await asyncio.to_thread(namespaces.inside, stage, read_page)
            await record.until("speaker", "create", "events")
            await record.until("speaker", "patch", "speakers/status")
            pool = read(EXAMPLE / "pools.yaml")[0]
            pool["spec"]["addresses"].append("192.0.2.120-192.0.2.129")
            server.load([pool])
            await record.until("controller", "patch", "effectiveconfigurations")
            speaker.terminate()
            assert await asyncio.wait_for(speaker.wait(), 20) == 0
    finally:
        await server.stop()
    return record


@pytest.mark.lab
@pytest.mark.skipif(bool(rootless.obstacle()), reason=rootless.obstacle())
def test_the_roles_grant_what_the_programs_ask_for_and_nothing_else(stage: str, tmp_path: Path) -> None:
    record = asyncio.run(ask_for_everything(stage, tmp_path))
    for account, asked in record.asked.items():
        rights = granted(account)
        missing = {right for right in asked if not any(grant.allows(right) for grant in rights)}
        needless = {grant for grant in rights if not any(grant.allows(right) for right in asked)}
        assert not missing, f"config/base/rbac.yaml does not let {account} {missing}"
        assert not needless, f"config/base/rbac.yaml lets {account} do what it never does: {needless}"
