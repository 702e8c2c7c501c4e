"""A network namespace for tests that need nothing else of a lab."""

import os
from collections.abc import Iterator

import pytest

from lbspeaker.errors import LbspeakerError
from lbspeaker.lab import namespaces


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"lbs-shell-{os.getpid()}"
    try:
        namespaces.add([name])
    except LbspeakerError as error:
        pytest.skip(str(error))
    try:
        yield name
    finally:
        namespaces.remove([name])
