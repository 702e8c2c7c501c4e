"""Who may see the page, and that nobody looks at the cluster while nobody looks at it."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from lbspeaker.errors import Unable, Unavailable
from lbspeaker.observe.look import Look
from lbspeaker.page import serving
from lbspeaker.page.serving import Options, Watching, door, pages
from lbspeaker.shell import http
from tests.test_overview import look

TOKEN = "0123456789abcdef"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def options(host: str, token_file: Path | None = None) -> Options:
    return Options(None, None, "lbspeaker-system", (host, 7475), token_file)


@asynccontextmanager
async def served(see: Callable[[], Look], entrance: http.Door, port: int) -> AsyncIterator[str]:
    task = asyncio.ensure_future(
        http.serve(pages(Watching(see)), None, ("127.0.0.1", port), door=entrance, of="the page")
    )
    for _ in range(100):
        await asyncio.sleep(0.02)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            continue
        writer.close()
        break
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        task.cancel()
        await asyncio.wait([task])


async def get(url: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers


def basic(password: str) -> str:
    return f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}"


def test_whoever_shows_it_to_others_needs_a_token(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        assert door(options(host)).token is None
    for host in ("", "0.0.0.0", "192.0.2.1", "::", "localhost.example"):
        with pytest.raises(Unable, match="anybody could look at the page"):
            door(options(host))
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    token = door(options("", path)).token
    assert token is not None and token() == TOKEN


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file"), (b"short\n", "fewer than 16"), (b"\xff" * 20, "no text")]
)
def test_a_token_that_is_none_is_refused(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Unable, match=why) as found:
        door(options("", path))
    assert "short" not in str(found.value), "what stands there may be a secret"


def test_without_the_token_nobody_comes_in_and_with_it_everybody(free_port: int, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)

    async def story() -> None:
        async with served(look, door(options("", path)), free_port) as url:
            for headers in ({}, {"Authorization": basic("wrong")}, {"Authorization": "Bearer"}, {"X": TOKEN}):
                for page in ("/", "/status.json", "/page.js"):
                    status, text, got = await get(url + page, **headers)
                    assert (status, text) == (401, "a token is needed\n")
                    assert got["WWW-Authenticate"].startswith("Basic ")
            for right in (basic(TOKEN), f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
                assert (await get(url, Authorization=right))[0] == 200
            path.write_text(TOKEN[::-1])
            assert (await get(url, Authorization=basic(TOKEN)))[0] == 401, "the token has changed"
            path.unlink()
            assert (await get(url, Authorization=basic(TOKEN)))[0] == 503

    asyncio.run(story())


def test_without_a_token_it_is_for_those_who_ask_this_machine_by_its_own_name(free_port: int) -> None:
    async def story() -> None:
        async with served(look, http.Door(), free_port) as url:
            for host in ("localhost", "localhost:9999", "127.0.0.1:1", "[::1]:80"):
                assert (await get(url, Host=host))[0] == 200
            for host in ("evil.example", f"evil.example:{free_port}", "localhost.evil.example", "192.0.2.1"):
                assert (await get(url, Host=host))[0] == 403

    asyncio.run(story())


def test_a_browser_is_told_to_load_nothing_from_elsewhere_and_to_keep_nothing(free_port: int) -> None:
    async def story() -> None:
        async with served(look, http.Door(), free_port) as url:
            for page, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/nothing", "text/plain")):
                _, _, headers = await get(url + page)
                assert headers["Content-Type"].startswith(kind)
                assert "default-src 'none'" in headers["Content-Security-Policy"]
                assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == (
                    "no-store",
                    "nosniff",
                )
            async with aiohttp.ClientSession() as session, session.post(url) as answer:
                assert answer.status == 405

    asyncio.run(story())


def test_it_looks_when_it_is_asked_and_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "EVERY_S", 0.2)
    looks = []

    def see() -> Look:
        looks.append(1)
        return look()

    async def story() -> None:
        watching = Watching(see)
        await asyncio.sleep(0.3)
        assert not looks
        shown = await asyncio.gather(*(watching.page() for _ in range(20)), watching.status())
        assert len(looks) == 1 and len({*shown[:-1]}) == 1
        await asyncio.sleep(0.3)
        await watching.page()
        assert len(looks) == 2

    asyncio.run(story())


def test_while_the_cluster_does_not_answer_the_last_view_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "EVERY_S", 0.0)
    gone = False

    def see() -> Look:
        if gone:
            raise Unavailable("the API server does not answer", "is it up?")
        return look()

    async def story() -> None:
        nonlocal gone
        watching = Watching(see)
        assert b"192.0.2.10" in await watching.page()
        assert json.loads(await watching.status())["verdict"] == "well"
        gone = True
        await asyncio.sleep(0.2)
        shown = (await watching.page()).decode()
        assert "cannot tell: the API server does not answer; is it up?" in shown
        assert "What stands below was seen before." in shown and "192.0.2.10" in shown
        with pytest.raises(Unavailable, match="does not answer"):
            await watching.status()
        gone = False
        await asyncio.sleep(0.2)
        assert "cannot tell" not in (await watching.page()).decode()

    asyncio.run(story())


def test_a_cluster_that_never_answered_is_not_well(free_port: int) -> None:
    def see() -> Look:
        raise Unable("no kubeconfig", "give --kubeconfig")

    async def story() -> None:
        async with served(see, http.Door(), free_port) as url:
            status, text, _ = await get(url)
            assert status == 200 and "<title>lbspeaker: cannot tell: no kubeconfig" in text
            assert "well" not in text and "seen before" not in text
            assert (await get(f"{url}/status.json"))[:2] == (503, "no kubeconfig; give --kubeconfig\n")

    asyncio.run(story())
