"""What the tests of this folder share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from model_name.io import osvariables, signatures


class Keys:
    """The keys of several users on one machine."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch

    def become(self, user: str, **variables: str) -> None:
        """Be a user, with the variables of the environment that this user has set."""
        for name in ("TRUSTED_SIGNERS", "REVOKED_SIGNERS"):
            self.patch.delenv(name, raising=False)
        self.patch.setenv("SIGNER_FILE", str(self.folder / user / "signer.pem"))
        for name, value in variables.items():
            self.patch.setenv(name, value)
        osvariables.env.cache_clear()


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    """Users with keys in a temporary folder; no real home directory is looked at."""
    monkeypatch.setattr(signatures, "_folder", lambda: tmp_path / "config")
    users = Keys(tmp_path, monkeypatch)
    users.become("ann")
    yield users
    monkeypatch.undo()
    osvariables.env.cache_clear()
