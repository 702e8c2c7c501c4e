"""Kernels that give a socket little memory for its options: filters, multicast groups."""

import pytest

from lbspeaker.errors import LbspeakerError
from lbspeaker.lab import namespaces


def give(namespace: str, size: int) -> None:
    """So many bytes for each socket there. Before Linux 6.8 all have 20480: the test is skipped."""
    try:
        namespaces.sysctl(namespace, {"net/core/optmem_max": str(size)})
    except LbspeakerError as error:
        pytest.skip(str(error))
