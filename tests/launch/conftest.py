import pytest


@pytest.fixture(autouse=True)
def no_logging_of_submitits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps submitit from setting up logging when it is imported, which closes pytest's capture."""
    monkeypatch.setenv("SUBMITIT_LOG_LEVEL", "NOCONFIG")
