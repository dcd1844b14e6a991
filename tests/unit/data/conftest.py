import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, which AEQUA_TEST_DATA names."""
    folder = os.environ.get("AEQUA_TEST_DATA")
    if folder is None:
        pytest.skip("no real data: AEQUA_TEST_DATA names no folder")
    return Path(folder)
