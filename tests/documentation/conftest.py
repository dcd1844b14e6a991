"""Pages and examples end with reports, whose pictures have tests of their own and would take half the time here."""

import pytest


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aequa_lightning.report.page.drawn", lambda figure, format: b"")
