import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets: AEQUA_TEST_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("AEQUA_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is missing; AEQUA_TEST_DATA can name another folder")
    return folder
