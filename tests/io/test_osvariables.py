"""Settings from the environment and `.env`, and the folders of a checkout or an installation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from model_name.core import errors
from model_name.io import osvariables


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, and an environment that says nothing."""
    for name in osvariables.Env.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    osvariables.env.cache_clear()
    yield tmp_path.resolve()
    osvariables.env.cache_clear()


@pytest.fixture
def checkout(folder: Path) -> Path:
    for name in ("nbs/runs", "confs", "model_name"):
        Path(folder, name).mkdir(parents=True)
    Path(folder, "settings.ini").touch()
    return folder


def test_defaults_need_nothing(folder: Path) -> None:
    env = osvariables.env()
    assert (
        env.mlflow_tracking_uri
        == env.mlflow_registry_uri
        == f"sqlite:///{folder.as_posix()}/mlflow.db"
    )
    assert env.mlflow_experiment_name == env.mlflow_registered_model_name == "model_name"
    assert (env.kafka_bootstrap_servers, env.alerts_addresses) == (None, ())


def test_the_environment_wins_over_the_file_and_empty_is_not_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text(
        "MLFLOW_TRACKING_URI=http://file\nmlflow_experiment_name=file\nUNKNOWN=1\n"
    )
    monkeypatch.setenv("mlflow_tracking_uri", "http://environment")
    monkeypatch.setenv("MLFLOW_REGISTERED_MODEL_NAME", "")
    env = osvariables.env()
    assert (env.mlflow_tracking_uri, env.mlflow_registry_uri) == (
        "http://environment",
        "http://environment",
    )
    assert (env.mlflow_experiment_name, env.mlflow_registered_model_name) == ("file", "model_name")


def test_the_object_is_shared_until_it_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    first = osvariables.env()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "later")
    assert osvariables.env() is first
    osvariables.env.cache_clear()
    assert osvariables.env().mlflow_experiment_name == "later"


def test_the_file_of_the_workspace_is_found_from_any_depth(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(checkout, ".env").write_text(
        "MLFLOW_EXPERIMENT_NAME=root\nMLFLOW_TRACKING_URI=http://root\n"
    )
    monkeypatch.chdir(checkout / "nbs" / "runs")
    Path(".env").write_text("MLFLOW_TRACKING_URI=http://here\n")
    assert osvariables.env().mlflow_experiment_name == "root"
    assert osvariables.env().mlflow_tracking_uri == "http://here"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("json://a", ["json://a"]),
        (
            "json://a, mailto://u:p@b?to=x@y,z@y ,slack://c",
            ["json://a", "mailto://u:p@b?to=x@y,z@y", "slack://c"],
        ),
        ("json://a\njson://b,", ["json://a", "json://b"]),
    ],
)
def test_alert_addresses(monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]) -> None:
    monkeypatch.setenv("ALERTS_ADDRESSES", text)
    env = osvariables.env()
    assert [each.get_secret_value().strip() for each in env.alerts_addresses] == expected
    assert "json://a" not in repr(env)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "hunter2")
    password = osvariables.env().kafka_sasl_password
    assert password is not None
    assert password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(osvariables.env()) + osvariables.env().model_dump_json()


def test_a_wrong_value_names_the_variable_and_not_the_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "hunter2")
    with pytest.raises(
        errors.ConfigError, match=r"KAFKA_SECURITY_PROTOCOL: Input should be 'PLAINTEXT'"
    ) as caught:
        osvariables.env()
    assert "hunter2" not in str(caught.value)


def test_a_file_in_another_encoding() -> None:
    Path(".env").write_bytes("MLFLOW_EXPERIMENT_NAME=caf\xe9".encode("latin-1"))
    with pytest.raises(errors.ConfigError, match="not UTF-8"):
        osvariables.env()


def test_a_checkout_is_recognised_by_its_files(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout / "nbs" / "runs")
    assert osvariables.checkout() == osvariables.workspace() == checkout
    assert (osvariables.confs_dir(), osvariables.runs_dir()) == (
        checkout / "confs",
        checkout / "nbs" / "runs",
    )
    Path(checkout, "settings.ini").unlink()
    assert osvariables.checkout() is None
    assert osvariables.workspace() == checkout / "nbs" / "runs"


def test_the_folders_of_an_installation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "site-packages" / "model_name"
    for name in ("confs", "runs"):
        (package / "_resources" / name).mkdir(parents=True)
    monkeypatch.setattr(osvariables.importlib.resources, "files", lambda name: package)
    assert osvariables.confs_dir() == package / "_resources" / "confs"
    assert osvariables.runs_dir() == package / "_resources" / "runs"
    (package / "_resources" / "confs").rmdir()
    with pytest.raises(
        errors.ConfigError, match=r"no folder .*confs; work inside a checkout, or install"
    ):
        osvariables.confs_dir()


def test_an_editable_installation_used_from_elsewhere(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setattr(
        osvariables.importlib.resources, "files", lambda name: checkout / "model_name"
    )
    assert osvariables.confs_dir() == checkout / "confs"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *(
            (name, True)
            for name in (
                "password",
                "sasl.password",
                "apiKey",
                "api_keys",
                "TOKEN",
                "Key",
                "PGPASSWORD",
            )
        ),
        *((name, False) for name in ("monkey", "seed", "1", "keyboard", "", "PWD", "tokenizer")),
    ],
)
def test_names_of_secrets(name: str, secret: bool) -> None:
    assert osvariables.sounds_secret(name) is secret


def test_variables_that_double_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["A0=xxxxxxxxxx", *(f"A{n}=${{A{n - 1}}}${{A{n - 1}}}" for n in range(1, 60))]
    Path(".env").write_text("\n".join(lines))
    osvariables.env.cache_clear()
    with pytest.raises(errors.ConfigError, match="too large"):
        osvariables.env()
    Path(".env").write_text("A=" + "x" * 300_000)
    with pytest.raises(errors.ConfigError, match="too large"):
        osvariables.check_env_file(Path(".env"))
    Path(".env").write_text("A=abc\nB=${A}/${HOME}/${NOT_SET:-x}\n")
    osvariables.check_env_file(Path(".env"))
    osvariables.env.cache_clear()
