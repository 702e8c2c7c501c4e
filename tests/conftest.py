"""How tests share a machine: labs one after another, sessions with single routers too, others beside them."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Say which tests must be in one process: all with labs, all with single routers; else those of one file.

    It counts when tests are run on several cores, with `-n 2 --dist loadgroup`.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        real = next((mark for mark in ("lab", "peers") if item.get_closest_marker(mark)), item.path.stem)
        item.add_marker(pytest.mark.xdist_group(real))


@pytest.fixture(scope="session", autouse=True)
def _reachable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let others pass through pytest's own directories: FRR runs as a user of its own."""
    base = tmp_path_factory.getbasetemp()
    for directory in (base, *base.parents):
        if directory.name.startswith(("pytest-", "popen-")):
            directory.chmod(0o711)
