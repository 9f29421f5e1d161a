"""One engine with the built-in pair for the tests that do not break it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from specterm.config import ModelSpec
from specterm.engine.local import LocalEngine


@pytest.fixture(scope="package")
def engine() -> Iterator[LocalEngine]:
    torch.set_num_threads(1)
    made = LocalEngine()
    list(made.load(ModelSpec()))
    yield made
    made.close()
