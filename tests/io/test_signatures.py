"""Signatures: keys that are made once, documents that cannot be altered, and who is trusted."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_name.core import errors
from model_name.io import osvariables, signatures
from tests.io.conftest import Keys


def refusal(sealed: str, kind: str = "verdict") -> str:
    """Why a document is not believed."""
    with pytest.raises(errors.GateError) as caught:
        signatures.unseal(sealed, kind, "the verdict")
    assert caught.value.exit_code == 3
    return str(caught.value)


SIXTEEN = """
import multiprocessing
from model_name.io import signatures

def first(barrier, keys):
    barrier.wait()
    keys.put(signatures.sign(b"1", "note").key)

context = multiprocessing.get_context("fork")
barrier, keys = context.Barrier(16), context.Queue()
started = [context.Process(target=first, args=(barrier, keys)) for _ in range(16)]
[process.start() for process in started]
print(*[keys.get(timeout=60) for process in started])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that start at once need fork")
def test_sixteen_processes_that_sign_first_have_one_key(keys: Keys) -> None:
    done = subprocess.run([sys.executable, "-c", SIXTEEN], capture_output=True, text=True)
    assert done.stdout.split() == [signatures.sign(b"1", "note").key] * 16, done.stderr
    file = signatures.signer_file()
    assert sorted(path.name for path in file.parent.iterdir()) == ["signer.pem", "signer.pub"]
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_another_user_is_believed_once_trusted(keys: Keys) -> None:
    sealed = signatures.seal({"version": 3}, "verdict")
    keys.become("bob")
    assert "not trusted here: if you trust its owner" in refusal(sealed)
    signatures.sign(b"", "note")  # bob has a key of his own now, which changes nothing
    assert "not trusted here" in refusal(sealed)
    for trusted in ("ann", "ann/signer.pub"):
        keys.become("bob", TRUSTED_SIGNERS=str(keys.folder / trusted))
        assert signatures.unseal(sealed, "verdict", "the verdict") == {"version": 3}
    folder = keys.folder / "config" / "trusted"
    folder.mkdir(parents=True)
    (folder / "ann.pub").write_bytes((keys.folder / "ann" / "signer.pub").read_bytes())
    keys.become("bob")
    assert signatures.unseal(sealed, "verdict", "the verdict") == {"version": 3}


@pytest.mark.parametrize("length", [16, 64])
def test_a_revoked_key_is_believed_nowhere_and_signs_nothing(keys: Keys, length: int) -> None:
    sealed = signatures.seal({"version": 3}, "verdict")
    key = signatures.sign(b"", "note").key
    keys.become("ann", REVOKED_SIGNERS=f"{'0' * 16}, {key[:length].upper()}")
    assert "which REVOKED_SIGNERS revokes" in refusal(sealed)
    assert signatures.trusted_signers() == {}
    with pytest.raises(errors.ConfigError, match="is revoked, so nothing is signed with it"):
        signatures.sign(b"", "note")


def test_every_altered_character_is_noticed(keys: Keys) -> None:
    sealed = signatures.seal({"version": 3, "passed": True, "score": 0.25}, "verdict")
    for position, character in enumerate(sealed):
        other = "8" if character != "8" else "7"
        refusal(sealed[:position] + other + sealed[position + 1 :])
    assert "not what the key" in refusal(sealed, kind="decision"), "a document of another kind"


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "null", '{"document": 1}', "[" * 100_000, "\x00"]
)
def test_what_is_no_signed_document(keys: Keys, text: str) -> None:
    assert refusal(text) == "the verdict is not a signed document: make it again"


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (float("nan"), ValueError, "document.value is nan"),
        (np.float64(1.5), None, ""),  # a float of Python, too
        (np.int64(1), TypeError, "document.value is a int64"),
        ([{2: "two"}], TypeError, "document.value\\[0\\] has the key 2"),
        ({"at": Path("x")}, TypeError, "document.value.at is a PosixPath"),
        (b"", TypeError, "document.value is a bytes"),
    ],
)
def test_only_what_comes_back_as_it_was_is_signed(
    keys: Keys, value: Any, error: type[Exception] | None, message: str
) -> None:
    if error is None:
        sealed = signatures.seal({"value": value}, "verdict")
        assert signatures.unseal(sealed, "verdict", "it") == {"value": value}
        return
    with pytest.raises(error, match=message):
        signatures.seal({"value": value}, "verdict")


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"", 0o600, "is not a private key without a password"),
        (None, 0o644, "others can read the private key"),
        (b"rsa", 0o600, "is not an elliptic-curve key over P-256"),
    ],
)
def test_a_key_that_cannot_be_used(
    keys: Keys, content: bytes | None, mode: int, message: str
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    signatures.sign(b"", "note")
    file = signatures.signer_file()
    if content == b"rsa":
        content = rsa.generate_private_key(65_537, 2_048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    file.write_bytes(file.read_bytes() if content is None else content)
    file.chmod(mode)
    with pytest.raises(errors.ConfigError, match=message):
        signatures.sign(b"", "note")


def test_no_place_for_a_key(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    (keys.folder / "file").touch()
    keys.become("file")
    with pytest.raises(errors.ConfigError, match="can be made at .*: .* Set SIGNER_FILE to a file"):
        signatures.sign(b"", "note")
    monkeypatch.delenv("SIGNER_FILE")
    osvariables.env.cache_clear()
    monkeypatch.setattr(signatures, "_folder", lambda: Path("~/.config/model_name"))
    with pytest.raises(errors.ConfigError, match="no absolute path to a key .* Set SIGNER_FILE"):
        signatures.sign(b"", "note")


def test_a_service_verifies_without_a_private_key(keys: Keys) -> None:
    sealed = signatures.seal({"version": 3}, "verdict")
    keys.become("service", TRUSTED_SIGNERS=str(keys.folder / "ann" / "signer.pub"))
    assert signatures.unseal(sealed, "verdict", "the verdict") == {"version": 3}
    assert not (keys.folder / "service").exists(), "verifying makes no key"


@pytest.mark.parametrize(
    ("trusted", "message"),
    [
        ("nowhere", "TRUSTED_SIGNERS names .*nowhere, which cannot be read"),
        ("text", "is not a public key"),
    ],
)
def test_a_trusted_key_that_cannot_be_read(keys: Keys, trusted: str, message: str) -> None:
    sealed = signatures.seal({"version": 3}, "verdict")
    (keys.folder / "text").write_text("no key")
    keys.become(
        "ann",
        TRUSTED_SIGNERS=os.pathsep.join([str(keys.folder / "ann"), str(keys.folder / trusted)]),
    )
    with pytest.raises(errors.ConfigError, match=message):
        signatures.unseal(sealed, "verdict", "the verdict")
