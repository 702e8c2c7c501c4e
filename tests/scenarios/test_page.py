"""The status page of a whole cluster, as a browser shows it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.scenarios.conftest import SERVICES, World, wait_for

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"),
]
SHOTS = os.environ.get("LBSPEAKER_SCREENSHOTS")  # a directory to keep pictures in, for people
ALONE = [  # it asks nobody but this page
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1200,900"),
]


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(world: World, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """The page of the lab, which has a Service on both ways."""
    router = str(world.lab.topology.router.ipv4)
    world.create("BGPPeer", "router", myASN=64513, peerASN=64512, peerAddress=router, holdTime="6s")
    world.create("BGPAdvertisement", "bgp")
    world.service("web")
    world.settle(world.ip("web"))
    argv = [sys.executable, "-m", "lbspeaker", "page", "--kubeconfig", str(world.lab.kubeconfig)]
    process = subprocess.Popen([*argv, "--listen", f"127.0.0.1:{port}"])
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the page is there", 20)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def url(server: "subprocess.Popen[bytes]", port: int) -> str:
    return f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in (*ALONE, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def words(browser: webdriver.Chrome, id_: str) -> str:
    return str(browser.execute_script("return document.getElementById(arguments[0]).textContent", id_))


def box(browser: webdriver.Chrome, css: str) -> tuple[float, float]:
    """Width and height of an element; in one step, as it may be replaced at any moment."""
    script = "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
    width, height = browser.execute_script(f"{script} return [box.width, box.height]", css)
    return float(width), float(height)


def shot(browser: webdriver.Chrome, name: str) -> None:
    if SHOTS:
        height = browser.execute_script("return document.documentElement.scrollHeight")
        size = browser.get_window_size()
        browser.set_window_size(size["width"], height + 150)
        browser.save_screenshot(str(Path(SHOTS) / f"{name}.png"))
        browser.set_window_size(size["width"], size["height"])


SHARES = """
const chart = document.querySelector("#rates svg");
const y = (line) => Number(line.getAttribute("y1"));
const lines = [...chart.querySelectorAll("line")], base = Math.max(...lines.map(y));
const budget = y(chart.querySelector("line.budget"));
const points = [...chart.querySelectorAll("polyline.busiest")].flatMap((line) => [...line.points]);
return [0, ...points.map((point) => (base - point.y) / (base - budget))];
"""


@pytest.fixture
def page(browser: webdriver.Chrome, url: str) -> webdriver.Chrome:
    browser.get(url)
    wait_for(lambda: words(browser, "verdict") == "well", "all is well", 30)
    return browser


def test_one_sees_who_answers_where_and_nothing_is_refused_by_the_browser(
    world: World, page: webdriver.Chrome
) -> None:
    ip = world.ip("web")
    wait_for(lambda: "BGP 1 of 1 up" in words(page, "picture"), "the sessions are up", 30)
    wait_for(lambda: ip in words(page, "picture"), "somebody answers for the IP", 30)
    width, height = box(page, "#picture svg")
    assert width > 600 and height > 200
    drawn = words(page, "picture")
    assert f"router {world.lab.topology.router.ipv4}" in drawn
    assert all(node.name in drawn for node in world.lab.nodes)
    assert box(page, "#pools meter")[0] > 50, "it has its style"
    assert "default/web" in words(page, "services-table")
    assert page.find_element(By.ID, "lost").is_displayed() is False
    shot(page, "light")
    assert page.get_log("browser") == []


def test_what_happens_is_seen_without_a_reload_and_who_reads_is_left_alone(
    world: World, page: webdriver.Chrome
) -> None:
    dead = next(node.name for node in world.lab.nodes if node.name != world.owner(world.ip("web")))
    page.execute_script("window.mark = 1; document.getElementById('services-table').focus()")
    verdict = page.find_element(By.ID, "verdict")
    world.lab.signal(f"speaker-{dead}", signal.SIGKILL)
    try:
        wait_for(lambda: "problem" in words(page, "verdict"), "a problem is told", 30)
        wait_for(lambda: "problem" in page.title, "also in the title")
        silent = f"{dead}: its speaker has been silent"
        wait_for(lambda: silent in words(page, "problems"), "and what it is", 30)
        wait_for(lambda: "silent!" in words(page, "picture"), "and drawn")
        assert page.execute_script("return window.mark") == 1
        assert page.execute_script("return document.activeElement.id") == "services-table"
        assert verdict.text.endswith("problems") or verdict.text.endswith("problem"), "the same element"
        shot(page, "trouble")
    finally:
        world.lab.stop(f"speaker-{dead}", 0)
        world.lab.start(f"speaker-{dead}")
    wait_for(lambda: words(page, "verdict") == "well", "all is well again", 30)


def test_a_burst_is_drawn_below_the_budget(world: World, page: webdriver.Chrome) -> None:
    try:
        for number in range(30):
            world.service(f"burst{number}")

        def shares() -> list[float]:
            """How much of its budget the busiest link used, as it is drawn."""
            return [float(share) for share in page.execute_script(SHARES)]

        wait_for(lambda: max(shares()) > 0.6, "the burst is drawn", 30)
        time.sleep(4)
        shot(page, "burst")
        assert max(shares()) < 1.1, "12 of 11, if the answerer was held up"
    finally:
        for number in range(30):
            world.delete(f"{SERVICES}/burst{number}")


def test_a_page_that_does_not_answer_any_more_says_that_it_may_be_old(
    page: webdriver.Chrome, server: "subprocess.Popen[bytes]"
) -> None:
    lost = page.find_element(By.ID, "lost")
    assert not lost.is_displayed()
    server.send_signal(signal.SIGSTOP)
    try:
        wait_for(lost.is_displayed, "it says so", 20)
    finally:
        server.send_signal(signal.SIGCONT)
    wait_for(lambda: not lost.is_displayed(), "and no longer", 20)


def test_it_can_be_used_with_the_keyboard_and_read_aloud(page: webdriver.Chrome) -> None:
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    skip = page.switch_to.active_element
    assert skip.text == "Skip to the tables" and skip.rect["x"] >= 0, "it is seen once it has the focus"
    skip.send_keys(Keys.ENTER)
    assert page.current_url.endswith("#services")
    nodes: list[dict[str, Any]] = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [(str(node["role"]["value"]), str(node.get("name", {}).get("value", ""))) for node in nodes]
    assert ("heading", "lbspeaker") in named and ("main", "") in named
    assert ("status", "") in named or ("status", "well") in named
    for role in ("region", "image", "table", "columnheader", "rowheader"):
        names = [name for found, name in named if found == role]
        assert names and all(names), f"each {role} has a name"


def test_it_is_for_dark_rooms_too(page: webdriver.Chrome) -> None:
    def back() -> str:
        return str(page.execute_script("return getComputedStyle(document.body).backgroundColor"))

    light = back()
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        assert (light, back()) == ("rgb(255, 255, 255)", "rgb(17, 22, 30)")
        shot(page, "dark")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_on_a_telephone_nothing_sticks_out(page: webdriver.Chrome) -> None:
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_javascript_all_of_it_is_there(page: webdriver.Chrome, url: str) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get(url)
        assert "default/web" in page.page_source and 'http-equiv="refresh"' in page.page_source
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_while_the_api_is_away_the_page_says_so(world: World, page: webdriver.Chrome) -> None:
    world.lab.stop("apiserver")
    try:
        wait_for(lambda: words(page, "verdict").startswith("cannot tell: "), "it cannot tell", 30)
        assert "default/web" in words(page, "services-table"), "what was seen before is still there"
    finally:
        world.lab.start("apiserver")
    wait_for(lambda: words(page, "verdict") == "well", "all is well again", 60)
