"""The Lease by which one of several controllers acts (`core.leadership`), on an API server."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import structlog

from lbspeaker import __version__
from lbspeaker.core import leadership
from lbspeaker.model import LeaderRecord
from lbspeaker.shell.apiserver import ApiError, ApiServer
from lbspeaker.wire import kube

_REQUEST_S = 1.0  # a renewal that takes longer is tried anew
_AGAIN_S = 0.2


class LeadershipLost(Exception):
    """Somebody else leads, or may by now."""


class Leading:
    """The turn of one controller, `identity`."""

    def __init__(self, api: ApiServer, namespace: str, identity: str) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._record = LeaderRecord()
        self._renewed = 0.0
        self.trouble = "the API server has not answered yet"  # with the Lease; "": none
        self._log: Any = structlog.get_logger()

    @property
    def leads(self) -> bool:
        """Whether it may still write."""
        return not leadership.must_stop(self._renewed, time.monotonic())

    async def acquire(self) -> None:
        """Wait until it is our turn, however long that takes."""
        standby = leadership.Standby(self._identity)
        told = ""
        while True:
            try:
                record = await self._read()
                self.trouble = ""
                if standby.is_free(record, time.monotonic()) and await self._write(record, self._identity):
                    return
                state = f"holder={record.holder}"
                if state != told and record.holder not in ("", self._identity):
                    self._log.info("standing-by", holder=record.holder)
                told = state
            except ApiError as error:
                if error.what != told:
                    self._log.warning("lease-refused", why=error.what, hint=error.hint, retry_s=1)
                self.trouble = told = error.what
            await asyncio.sleep(leadership.LOOK_EVERY_S)

    async def hold(self) -> None:
        """Renew the Lease. Raises LeadershipLost."""
        why = "no answer in time"
        while True:
            await asyncio.sleep(leadership.RENEW_EVERY_S if self._renewed_lately() else _AGAIN_S)
            if not self.leads:
                raise LeadershipLost(f"the Lease cannot be renewed: {why}")
            try:
                if not await self._write(self._record, self._identity):
                    record = await self._read()
                    if record.holder != self._identity:
                        raise LeadershipLost(f"{record.holder or 'nobody'} leads")
                    self._record = record
            except ApiError as error:
                why = error.what

    async def release(self) -> None:
        """Let the next one begin at once."""
        record = self._record
        try:
            # A renewal that was cut off may have been done: then the version is another one.
            while record.holder == self._identity and not await self._write(record, ""):
                record = await self._read()
        except ApiError as error:
            self._log.warning("lease-unreleased", why=error.what)

    def _renewed_lately(self) -> bool:
        return time.monotonic() < self._renewed + leadership.RENEW_EVERY_S

    async def _read(self) -> LeaderRecord:
        try:
            path = f"{self._leases}/{kube.LEADER}"
            return kube.leading(await self._api.request("GET", path, timeout_s=_REQUEST_S))
        except ApiError as error:
            if error.status == 404:
                return LeaderRecord()
            raise

    async def _write(self, record: LeaderRecord, holder: str) -> bool:
        """Put a name into the Lease that says `record`; False if it says something else by now."""
        began = time.monotonic()
        turns = record.transitions + (holder not in ("", record.holder))
        wanted = replace(record, holder=holder, duration_s=leadership.DURATION_S, transitions=turns)
        body = kube.leader_lease(wanted, self._namespace, time.time(), __version__)
        method, path = ("PUT", f"{self._leases}/{kube.LEADER}") if record.version else ("POST", self._leases)
        try:
            answer = await self._api.request(method, path, body=body, timeout_s=_REQUEST_S)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        self._record, self._renewed = kube.leading(answer), began
        return True
