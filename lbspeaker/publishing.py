"""What the controller writes for the configuration: to its objects, and to all speakers.

Report, Protect ─▶ status and finalizer of each object, the last word on each
Publish ─────────▶ the EffectiveConfiguration, which speakers follow
at first ────────▶ the Secret of speakers' hellos, if there is none
"""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from lbspeaker.config.kinds import KINDS
from lbspeaker.core.objects import FINALIZER, Protect, Report
from lbspeaker.core.patience import RETRY_S, Patience
from lbspeaker.errors import Problem
from lbspeaker.model import ConfigSet
from lbspeaker.shell.apiserver import ApiError, ApiServer
from lbspeaker.wire import kube

REPORT_S = 0.1  # until objects are told their status: together
HELLO_RETRY_S = 60.0  # nobody waits for it: speakers do without
HELLO_PASSWORD_BYTES = 32


class Publishing:
    """Writes to the objects of `namespace`; `failed` is told, later, what was not written."""

    def __init__(self, api: ApiServer, namespace: str, failed: Callable[[Report | Protect], None]) -> None:
        self._api = api
        self._namespace = namespace
        self._failed = failed
        self._log: Any = structlog.get_logger()
        self._configs: asyncio.Queue[ConfigSet] = asyncio.Queue()
        self._reports: dict[tuple[str, type], Report | Protect] = {}
        self._reporting = asyncio.Event()
        self._patience = Patience()  # by object
        self._problems: frozenset[Problem] = frozenset()
        self._doubts: Mapping[str, str] = {}
        self._unpublished = ""
        self.published = False  # what was accepted last

    def publish(self, config: ConfigSet) -> None:
        self._configs.put_nowait(config)

    def report(self, effect: Report | Protect) -> None:
        self._reports[effect.written.key, type(effect)] = effect
        self._reporting.set()

    def doubt(self, doubts: Mapping[str, str]) -> None:
        """Log what is doubtful about pools (by name) beside what their documents say, once."""
        for pool, what in doubts.items():
            if self._doubts.get(pool) != what:
                self._log.warning("config-doubtful", object=f"IPAddressPool/{pool}", what=what)
        self._doubts = dict(doubts)

    async def run(self) -> None:
        """Write, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish_all())
            tasks.create_task(self._report_all())
            tasks.create_task(self._provide_hello_secret())

    # -- objects --

    async def _report_all(self) -> None:
        while True:
            await self._reporting.wait()
            await asyncio.sleep(REPORT_S)
            reports, self._reports = self._reports, {}
            self._reporting.clear()
            for effect in reports.values():
                await self._report(effect)

    async def _report(self, effect: Report | Protect) -> None:
        written = effect.written
        path = self._path(str(written.document["apiVersion"]), written.kind, written.name)
        try:
            if isinstance(effect, Report):
                body = kube.status_patch(written, effect.status, time.time())
                await self._api.request("PATCH", f"{path}/status", body=body)
            else:
                body = kube.finalizers_patch(written, FINALIZER, effect.protect)
                await self._api.request("PATCH", path, body=body)
            self._patience.done(written.key)
        except ApiError as error:
            self._unreported(effect, error)

    def _unreported(self, effect: Report | Protect, error: ApiError) -> None:
        """Try again, later and later; after a conflict (409) the watch tells what it was about."""
        key = effect.written.key
        retry_s, is_news = self._patience.failed(key, error.what)
        first_404 = error.status == 404 and retry_s == RETRY_S  # it may have gone, and the watch will tell
        if is_news and error.status != 409 and not first_404:
            self._log.warning("unreported", object=key, why=error.what, retry_s=retry_s)
        asyncio.get_running_loop().call_later(retry_s, self._failed, effect)

    def _path(self, version: str, kind: str, name: str = "") -> str:
        path = f"/apis/{version}/namespaces/{self._namespace}/{KINDS[kind].plural}"
        return f"{path}/{name}" if name else path

    # -- the password of hellos --

    async def _provide_hello_secret(self) -> None:
        """Have the Secret there, with a password that nobody ever saw; one that is there (409) stays.

        Who deletes it gets another one.
        """
        path = f"/api/v1/namespaces/{self._namespace}/secrets"
        said = ""
        while True:
            password = secrets.token_bytes(HELLO_PASSWORD_BYTES)
            try:
                await self._api.request("POST", path, body=kube.hello_secret(self._namespace, password))
                said = ""
            except ApiError as error:
                if error.status != 409 and error.what != said:
                    said = error.what
                    hint = f"let the controller create the Secret {kube.HELLO_SECRET}, or create it yourself"
                    self._log.warning("hello-secret-uncreated", why=said, hint=hint, retry_s=HELLO_RETRY_S)
            await asyncio.sleep(HELLO_RETRY_S)

    # -- the effective configuration --

    async def _publish_all(self) -> None:
        while True:
            config = await self._configs.get()
            while not self._configs.empty():
                config = self._configs.get_nowait()
            self.published = False
            for problem in config.problems:
                if problem not in self._problems:
                    self._tell(problem)
            self._problems = frozenset(config.problems)
            self._unpublished = ""
            while self._configs.empty() and not await self._publish(config):
                await asyncio.sleep(RETRY_S)
            self.published = self._configs.empty()

    def _tell(self, problem: Problem) -> None:
        event = "config-wrong" if problem.severity == "error" else "config-doubtful"
        fields = {"object": problem.object, "path": problem.path, "what": problem.what, "hint": problem.hint}
        self._log.warning(event, **{name: value for name, value in fields.items() if value})

    async def _publish(self, config: ConfigSet) -> bool:
        """Write the effective configuration if it differs from what is there; False: try again."""
        version, kind = f"{kube.GROUP}/v1beta1", "EffectiveConfiguration"
        path = self._path(version, kind, kube.EFFECTIVE_NAME)
        body = kube.effective_configuration(config.documents)
        try:
            present = await self._present(path)
            if present is None:
                await self._api.request("POST", self._path(version, kind), body=body)
            elif present != json.loads(body)["spec"]:
                await self._api.request("PATCH", path, body=body)
            else:
                return True
        except ApiError as error:
            if error.what != self._unpublished:
                self._log.warning("config-unpublished", why=error.what, retry_s=RETRY_S)
            self._unpublished = error.what
            return False
        pools = len(config.config.pools)
        self._log.info("config", documents=len(config.documents), pools=pools, problems=len(config.problems))
        return True

    async def _present(self, path: str) -> object | None:
        try:
            present: dict[str, object] = json.loads(await self._api.request("GET", path))
            return present.get("spec")
        except ApiError as error:
            if error.status == 404:
                return None
            raise
