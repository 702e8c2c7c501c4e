"""How tests share a machine: labs one after another, sessions with single routers too, others beside them."""

import logging

import pytest
import structlog

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))  # as programs begin


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Say which tests must be in one process: all with labs, all with single routers; else those of one file.

    It counts when tests are run on several cores, with `-n 2 --dist loadgroup`. Ours is first, as xdist reads
    the marks in its own hook of this name.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        real = next((mark for mark in ("lab", "peers") if item.get_closest_marker(mark)), item.path.stem)
        item.add_marker(pytest.mark.xdist_group(real))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to go on where xdist did not group: it says nothing then, and two labs disturb each other."""
    grouping = getattr(session.config.option, "loadgroup", False)
    if grouping and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("xdist made no groups: it does not work with this version of pytest")


@pytest.fixture(scope="session", autouse=True)
def _reachable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let others pass through pytest's own directories: FRR runs as a user of its own."""
    base = tmp_path_factory.getbasetemp()
    for directory in (base, *base.parents):
        if directory.name.startswith(("pytest-", "popen-")):
            directory.chmod(0o711)
