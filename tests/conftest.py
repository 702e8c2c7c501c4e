"""How tests share a machine: those with namespaces and real time one after another, others beside them."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Say which tests must be in one process: all that measure time on real links; else those of one file.

    It counts when tests are run on several cores, with `-n 2 --dist loadgroup`.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        alone = item.get_closest_marker("lab") or item.get_closest_marker("peers")
        item.add_marker(pytest.mark.xdist_group("real" if alone else item.path.stem))


@pytest.fixture(scope="session", autouse=True)
def _reachable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let others pass through pytest's own directories: FRR runs as a user of its own."""
    base = tmp_path_factory.getbasetemp()
    for directory in (base, *base.parents):
        if directory.name.startswith(("pytest-", "popen-")):
            directory.chmod(0o711)
