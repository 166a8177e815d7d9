"""Settings for the property tests."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> Iterator[None]:
    """An example may collect garbage, to hear of failures that nobody took: without the rest."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
