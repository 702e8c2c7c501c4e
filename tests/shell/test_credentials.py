"""Who we are, and who the server is: found where kubectl finds it, and kept fresh for as long as we run."""

import asyncio
import base64
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from lbspeaker.errors import Unable
from lbspeaker.shell import credentials as module
from lbspeaker.shell.apiserver import ApiError, ApiServer
from lbspeaker.shell.credentials import Credentials, credentials, from_kubeconfig, from_service_account
from tests.shell.cluster import NODES, QUICK, node, reflecting, served, until


def kubeconfig(directory: Path, server: str, user: dict[str, Any], **cluster: Any) -> str:
    path = directory / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
        "clusters": [{"name": "lab", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def plugin(directory: Path, answer: str, then: str = "") -> dict[str, Any]:
    """An exec plugin that counts its runs in `runs`, prints `answer` and then does what `then` says."""
    script = directory / "plugin"
    script.write_text(f"#!/bin/sh\necho run >> {directory}/runs\ncat <<'END'\n{answer}\nEND\n{then}\n")
    script.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script), "args": []}}


def exec_answer(**status: Any) -> str:
    version = "client.authentication.k8s.io/v1"
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


# --- found ----------------------------------------------------------------------------------------------


def test_a_token_in_a_kubeconfig(tmp_path: Path) -> None:
    found = from_kubeconfig(kubeconfig(tmp_path, "http://127.0.0.1:6443/", {"token": "abc"}))
    assert (found.host, found.authorization) == ("http://127.0.0.1:6443", "Bearer abc")


def test_a_token_file_is_named_from_where_the_kubeconfig_is_and_loses_its_newline(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" abc\n")
    found = from_kubeconfig(kubeconfig(tmp_path, "http://127.0.0.1:6443", {"tokenFile": "token"}))
    assert found.authorization == "Bearer abc"
    assert str(tmp_path / "token") in found.files


def test_name_and_password(tmp_path: Path) -> None:
    found = from_kubeconfig(kubeconfig(tmp_path, "http://h", {"username": "me", "password": "x"}))
    assert found.authorization == "Basic " + base64.b64encode(b"me:x").decode()


def test_an_exec_plugin(tmp_path: Path) -> None:
    answer = exec_answer(token="abc", expirationTimestamp="2030-01-02T03:04:05Z")
    found = from_kubeconfig(kubeconfig(tmp_path, "http://h", plugin(tmp_path, answer)))
    assert found.authorization == "Bearer abc"
    assert found.expires == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_pods_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "token").write_text("abc\n")
    (tmp_path / "ca.crt").write_text("here would be a certificate")
    found = from_service_account(str(tmp_path / "token"), str(tmp_path / "ca.crt"))
    assert (found.host, found.authorization) == ("https://[fd00::1]:443", "Bearer abc")
    assert found.ca == str(tmp_path / "ca.crt")


def test_what_the_user_names_comes_first_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("named", "environment"):
        (tmp_path / name).mkdir()
    named = kubeconfig(tmp_path / "named", "http://named", {})
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "environment", "http://environment", {}))
    assert credentials(named).host == "http://named"
    assert credentials().host == "http://environment"


def test_kubeconfigs_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kubeconfig(tmp_path, "http://first", {})
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(tmp_path / "none"), first]))
    assert credentials().host == "http://first"


def test_no_api_server_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(Unable) as caught:
        credentials()
    assert str(caught.value) == (
        f"no Kubernetes API server: no kubeconfig at {tmp_path}/none, and not running in a cluster; "
        "--kubeconfig FILE, or --config DIR to run from files"
    )


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unable, match=r"kubeconfig .*/none does not exist"):
        credentials(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("story", "text", "why"),
    [
        ("empty", "", "empty"),
        ("no YAML", "a: [", "while parsing"),
        ("a list", "[]", "cannot be used"),
        ("a word", "hello", "cannot be used"),
        ("no context", "{contexts: [], clusters: [], users: []}", "current-context"),
        ("another context", "{current-context: x, contexts: [], clusters: [], users: []}", "name x"),
        (
            "no server",
            "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\n"
            "clusters: [{name: c, cluster: {}}]",
            "names no server",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, story: str, text: str, why: str) -> None:
    (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(Unable) as caught:
        credentials(str(tmp_path / "kubeconfig"))
    assert str(tmp_path / "kubeconfig") in caught.value.what
    assert why in caught.value.what
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("story", "answer", "then", "why"),
    [
        ("it fails", "", "echo not logged in >&2; exit 3", "not logged in"),
        ("it prints something else", "hello", "", "decode"),
        ("it gives nothing", exec_answer(), "", "neither token nor certificate"),
    ],
)
def test_an_exec_plugin_that_gives_nothing(
    tmp_path: Path, story: str, answer: str, then: str, why: str
) -> None:
    with pytest.raises(Unable, match="its exec plugin gives no credential") as caught:
        credentials(kubeconfig(tmp_path, "http://h", plugin(tmp_path, answer, then)))
    assert why in caught.value.what


def test_an_exec_plugin_that_is_not_installed(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}}
    with pytest.raises(Unable, match="No such file or directory: 'no-such-plugin'"):
        credentials(kubeconfig(tmp_path, "http://h", user))


def test_a_token_of_two_lines_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\ndef\n")
    with pytest.raises(Unable, match="not one line"):
        credentials(kubeconfig(tmp_path, "http://h", {"tokenFile": "token"}))


def test_a_ca_that_is_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("hello")
    path = kubeconfig(tmp_path, "https://h", {}, **{"certificate-authority": "ca"})
    with pytest.raises(Unable, match="must be PEM"):
        credentials(path)


# --- kept fresh -----------------------------------------------------------------------------------------


def test_a_token_that_was_replaced_is_read_when_the_old_one_is_refused(tmp_path: Path) -> None:
    """Its time stamp is not even looked at: this is faster than the next look."""
    tokens, mine = tmp_path / "tokens", tmp_path / "token"

    async def play() -> None:
        async with served(tokens=tokens) as (server, _):
            found = credentials(kubeconfig(tmp_path, server.url, {"tokenFile": str(mine)}))
            async with ApiServer(found, "test", timings=QUICK) as api, reflecting(api) as told:
                replace(tokens, "new,me\n")
                replace(mine, "new\n")
                server.cut_connections()
                await asyncio.sleep(0.02)
                await api.request("POST", NODES, body=node("a"))
                await until(lambda: told.keys == ["a"])

    tokens.write_text("old,me\n")
    mine.write_text("old\n")
    asyncio.run(play())


def replace(path: Path, text: str) -> None:
    """As the kubelet does: another file under the same name."""
    other = path.with_suffix(".new")
    other.write_text(text)
    other.replace(path)


def test_a_token_that_is_refused_for_good(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("right,me\n")

    async def play() -> None:
        async with served(tokens=tmp_path / "tokens") as (server, _):
            found = credentials(kubeconfig(tmp_path, server.url, {"token": "wrong"}))
            async with ApiServer(found, "test") as api:
                with pytest.raises(ApiError) as caught:
                    await api.request("GET", NODES)
                assert caught.value.status == 401
                assert "does not take these credentials" in caught.value.hint
                assert "wrong" not in str(caught.value)

    asyncio.run(play())


def test_a_token_file_is_read_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    (tmp_path / "token").write_text("old")
    found = credentials(kubeconfig(tmp_path, "http://h", {"tokenFile": "token"}))

    async def play() -> None:
        before = await found.current()
        assert before is await found.current()
        replace(tmp_path / "token", "new")
        assert (await found.current()).authorization == "Bearer new"
        (tmp_path / "token").unlink()
        assert (await found.current()).authorization == "Bearer new"  # until there is another

    asyncio.run(play())


def test_an_exec_plugin_runs_again_when_its_token_is_about_to_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.0)

    def runs_after(life: timedelta) -> int:
        (tmp_path / "runs").unlink(missing_ok=True)
        expires = (datetime.now(UTC) + life).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = exec_answer(token="abc", expirationTimestamp=expires)
        found = credentials(kubeconfig(tmp_path, "http://h", plugin(tmp_path, answer)))
        for _ in range(2):
            asyncio.run(current(found))
        return (tmp_path / "runs").read_text().count("run")

    assert runs_after(timedelta(hours=1)) == 1
    assert runs_after(timedelta(seconds=20)) == 3


async def current(found: Credentials) -> None:
    await found.current()


def test_a_plugin_that_takes_its_time_stops_nobody_else(tmp_path: Path) -> None:
    found = credentials(
        kubeconfig(tmp_path, "http://h", plugin(tmp_path, exec_answer(token="a"), "sleep 0.5"))
    )

    async def play() -> float:
        access = await found.current()
        renewal = asyncio.create_task(found.renew(access, time.monotonic()))
        longest, before = 0.0, time.monotonic()
        while not renewal.done():
            await asyncio.sleep(0.01)
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
        assert not await renewal  # the same token: nothing to try
        return longest

    assert asyncio.run(play()) < 0.3


def test_of_many_requests_that_are_refused_together_one_asks_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("right,me\n")

    async def play() -> None:
        async with served(tokens=tmp_path / "tokens") as (server, _):
            user = plugin(tmp_path, exec_answer(token="wrong"))
            found = credentials(kubeconfig(tmp_path, server.url, user))
            async with ApiServer(found, "test") as api:
                calls = (api.request("GET", NODES) for _ in range(16))
                answers = await asyncio.gather(*calls, return_exceptions=True)
            assert [getattr(answer, "status", None) for answer in answers] == [401] * 16

    asyncio.run(play())
    assert (tmp_path / "runs").read_text().count("run") == 2


# --- TLS ------------------------------------------------------------------------------------------------


def authority(directory: Path, name: str) -> Path:
    """A certificate and key for 127.0.0.1, signed by itself, without the key identifiers of newer CAs."""
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:api.test"),
            *("-addext", "subjectKeyIdentifier=none", "-addext", "authorityKeyIdentifier=none"),
            *("-keyout", str(directory / f"{name}.key"), "-out", str(directory / f"{name}.crt")),
        ],
        check=True,
        capture_output=True,
    )
    return directory / f"{name}.crt"


@asynccontextmanager
async def tls_server(certificate: Path) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """A server that says {} to everything, and the context in which its certificate can be changed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", context
    finally:
        server.close()


def test_a_ca_that_was_replaced_is_read_when_the_old_one_does_not_fit(tmp_path: Path) -> None:
    old, new, ca = authority(tmp_path, "old"), authority(tmp_path, "new"), tmp_path / "ca.crt"

    async def play() -> None:
        async with tls_server(old) as (url, context):
            found = credentials(kubeconfig(tmp_path, url, {}, **{"certificate-authority": str(ca)}))
            async with ApiServer(found, "test") as api:
                assert await api.request("GET", "/") == b"{}"
                context.load_cert_chain(new, new.with_suffix(".key"))
                replace(ca, new.read_text())
                assert await api.request("GET", "/") == b"{}"

    replace(ca, old.read_text())
    asyncio.run(play())


def test_a_server_with_another_certificate_is_not_talked_to(tmp_path: Path) -> None:
    old, new = authority(tmp_path, "old"), authority(tmp_path, "new")

    async def play() -> None:
        async with tls_server(new) as (url, _):
            found = credentials(kubeconfig(tmp_path, url, {}, **{"certificate-authority": str(old)}))
            async with ApiServer(found, "test") as api:
                with pytest.raises(ApiError) as caught:
                    await api.request("GET", "/")
            assert caught.value.reason == "Certificate"
            assert "self-signed certificate" in str(caught.value)

    asyncio.run(play())


@pytest.mark.parametrize(
    ("story", "cluster", "fine"),
    [
        ("its name is asked for", {"tls-server-name": "api.test"}, True),
        ("another name is asked for", {"tls-server-name": "other.test"}, False),
        (
            "the user says not to look",
            {"tls-server-name": "other.test", "insecure-skip-tls-verify": True},
            True,
        ),
    ],
)
def test_the_name_in_the_certificate(tmp_path: Path, story: str, cluster: dict[str, Any], fine: bool) -> None:
    certificate = authority(tmp_path, "api")

    async def play() -> bool:
        async with tls_server(certificate) as (url, _):
            path = kubeconfig(tmp_path, url, {}, **{"certificate-authority": str(certificate), **cluster})
            async with ApiServer(credentials(path), "test") as api:
                try:
                    return await api.request("GET", "/") == b"{}"
                except ApiError as error:
                    assert error.reason == "Certificate"
                    return False

    assert asyncio.run(play()) is fine


def test_certificate_authorities_without_key_identifiers_are_fine(tmp_path: Path) -> None:
    certificate = authority(tmp_path, "api")
    path = kubeconfig(tmp_path, "https://127.0.0.1:1", {}, **{"certificate-authority": str(certificate)})
    tls = asyncio.run(credentials(path).current()).tls
    assert tls is not None
    assert not tls.verify_flags & ssl.VERIFY_X509_STRICT
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname


def test_running_from_files_does_not_load_the_kubernetes_package() -> None:
    code = "import sys, lbspeaker.observe; print('kubernetes' in sys.modules, 'aiohttp' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False False\n"
