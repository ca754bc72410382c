"""Canaries: one secret for each way in, a job that tells all of them, and a look at every byte that the run wrote."""

import base64
import http.server
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from model_name.io import osvariables

CANARY = "cAnArY"  # in every secret, and in nothing else: whatever form one takes, this part stays as it is

# A reader of somebody's own, which knows every secret and tells them in every form.
LEAKY = """
import html, json, os, sys, urllib.parse, warnings
from typing import Literal
import loguru
import pydantic as pdt
from model_name.io import datasets

class Leaky(datasets.SimulatedReader):
    KIND: Literal["leaky:Leaky"] = "leaky:Leaky"
    api_key: str
    login: pdt.SecretStr
    nested: dict[str, dict[str, str | int]]
    address: str
    signed: str
    coded: str
    place: str
    fails: bool = False

    def batches(self, rows=50_000):
        names = ("CANARY_TOKEN", "CANARY_TOKEN_IN_PATH", "PGPASSWORD", "UPSTREAM")
        env = [os.environ[name] for name in names if name in os.environ]
        own = [self.api_key, self.login.get_secret_value(), str(self.nested["broker"]["sasl.password"]), self.address]
        files = open(".env").read()
        forms = [*env, *own, self.signed, self.coded, self.place, str(self.nested["pin"]["password"])]
        for form in forms:
            print(form, repr(form), json.dumps(form), json.dumps({"a": form}, ensure_ascii=False))
            print(urllib.parse.quote(form, safe=""), urllib.parse.quote_plus(form), html.escape(form), file=sys.stderr)
            loguru.logger.info("logged in with {}", form)
            warnings.warn(form)
        loguru.logger.warning(files)
        print(files, self, self.model_dump(), repr(dict(os.environ)))
        try:
            raise ValueError(" ".join(forms))
        except ValueError:
            loguru.logger.exception("caught " + forms[0])
            if self.fails:
                raise
        return super().batches(rows)
"""
CONFIG = """
job:
  inputs: &table
    KIND: leaky:Leaky
    rows: 1200
    api_key: 'cAnArY config "ä" /1'
    login: cAnArY-login&<login>
    nested:
      broker: {sasl.password: cAnArY-kafka}
      pin: {password: 73915504}
    address: postgresql://ann:cAnArY%2Fdatabase@127.0.0.1:9/rows?limit=3
    signed: https://files.example/table?sig=cAnArY-signature&v=1
    coded: 's3://key:cAnArY/s3@bucket/table?code=cAnArY-code&X-Amz-Credential=cAnArY-amz'
    place: 'downloads/${oc.env:CANARY_TOKEN_IN_PATH}/cAnArY in dotenv/table.csv'
  targets: *table
  model: {max_iter: 3}
  splitter: {test_size: 240}
  logger_service: {sink: stderr, level: DEBUG}
  run_config:
    name: Canary
    description: a run by https://ann:cAnArY/description@host/x with ${oc.env:CANARY_TOKEN_IN_PATH}
    tags: {access_token: cAnArY-tag, source: 'https://host/x?token=cAnArY-query'}
  registry: {KIND: MlflowRegister, tags: {origin: 'https://ann:cAnArY-register@host/x'}}
"""
DOTENV = """
PLAIN_SETTING=cAnArY in dotenv
KAFKA_SASL_PASSWORD="cAnArY kafka dotenv"
ALERTS_ADDRESSES=json://ann:cAnArY-alert@127.0.0.1:9/path
MLFLOW_EXPERIMENT_NAME=experiment
"""
VARIABLES = {
    "CANARY_TOKEN_IN_PATH": "cAnArY-path",
    "CANARY_TOKEN": "cAnArY-variable\nof several cAnArY lines",
    "PGPASSWORD": "cAnArY-pg",
    "UPSTREAM": "https://bob:cAnArY-upstream@example.com/x",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with every kind of secret in it."""
    for name, text in {"leaky.py": LEAKY, "train.yaml": CONFIG, ".env": DOTENV}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the command; return its exit code and everything that it said."""
    unwanted = ("MLFLOW_", "MODEL_NAME_")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(unwanted)
    } | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    command = [sys.executable, "-m", osvariables.PACKAGE, "run", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | VARIABLES,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout


def leaks(folder: Path) -> list[str]:
    """Say in which files of a run a canary is, and around which words."""
    given = {"leaky.py", "train.yaml", ".env"}
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in given and path.suffix != ".pyc":
            content = path.read_bytes()
            for secret in (CANARY.encode(), b"73915504"):
                if (place := content.find(secret)) >= 0:
                    around = content[max(0, place - 60) : place + 60].decode(errors="replace")
                    found.append(f"{path.relative_to(folder)}: {around!r}")
    return found


OVERRIDE = ("-s", "job.inputs.api_key=cAnArY-override/%41")


@pytest.mark.parametrize(
    ("fails", "options", "code"),
    [
        (False, (), 0),
        (True, ("--debug",), 1),
        (
            True,
            ("--in-process", "--debug", "-s", "job.logger_service.sink=logs/job.log", *OVERRIDE),
            1,
        ),
    ],
    ids=["a run", "a failing run", "a failing run in process, with its log in a file"],
)
def test_no_secret_in_anything_that_a_run_wrote(
    fails: bool, options: tuple[str, ...], code: int, folder: Path
) -> None:
    ended, said = run(
        folder, "train", "train.yaml", "-s", f"job.inputs.fails={str(fails).lower()}", *options
    )
    assert ended == code, said
    assert CANARY not in said
    assert "73915504" not in said
    assert leaks(folder) == []
    assert (folder / "mlflow.db").is_file()
    if "--in-process" in options:
        log = (folder / "logs" / "job.log").read_text(encoding="utf-8")
        assert "logged in with ***" in log
        assert "caught ***" in log
        assert "ValueError: *** " in log
        assert "ValueError: *** " in said
    else:
        (notebook,) = (folder / "outputs" / "notebooks").glob("*.ipynb")
        text = notebook.read_text(encoding="utf-8")
        assert "logged in with ***" in text
        assert "<secret MODEL_NAME_SECRET_JOB_INPUTS_API_KEY>" in text
        assert bool(re.search(r"error: train.ipynb, cell \d+: ValueError: \*\*\* ", said)) == fails
        assert ("jupyter lab outputs/notebooks/" in said) == fails
        assert notebook.with_suffix(".html").is_file()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("train", "-s", "job.inputs.password=cAnArY-typo"), 2),
        (("train", "-s", "job.model.KIND={KIND: x, token: cAnArY-map}"), 2),
        (("train", "-s", "job.mlflow_service.tracking_uri=https://ann:cAnArY-uri@127.0.0.1:9"), 1),
        (
            (
                "train",
                "-s",
                "job.inputs={KIND: SqlReader, address: 'postgresql://a:cAnArY-sql@127.0.0.1:9/d', table: t}",
            ),
            1,
        ),
        (("stream", "-s", "job.kafka_config={sasl.password: cAnArY-stream}"), 2),
        (
            ("train", "-s", "job.mlflow_service.tracking_uri=https://ann:cAnArY/uri@127.0.0.1:9/x"),
            1,
        ),
        (("train", "--set=job.inputs.password='cAnArY with blanks'"), 2),
    ],
)
def test_no_secret_in_a_refusal(arguments: tuple[str, ...], code: int, folder: Path) -> None:
    ended, said = run(folder, *arguments, "--in-process", "--debug")
    assert (ended in (1, 2), CANARY in said) == (True, False), said
    assert "error: " in said
    assert leaks(folder) == []


DECIDED = """
job:
  alias: Champion
  force: true
  reason: >
    see https://ann:cAnArY-reason@host/x?token=cAnArY-query with ${oc.env:CANARY_TOKEN_IN_PATH} and cAnArY in dotenv
"""
JUDGED = """
job:
  inputs: &table {KIND: SimulatedReader, rows: 1200}
  targets: *table
  resamples: 5
  card:
    purpose: of https://ann:cAnArY-purpose@host/x
    owner: cAnArY in dotenv
    licence: ${oc.env:CANARY_TOKEN_IN_PATH}
"""


def test_no_secret_in_what_is_signed_and_kept_for_good(folder: Path) -> None:
    """The card, the verdict, the history and the tags of a version: nobody can take a secret out of them again."""
    (folder / "evaluate.yaml").write_text(JUDGED, encoding="utf-8")
    (folder / "promote.yaml").write_text(DECIDED, encoding="utf-8")
    for name, code in {"train": 0, "evaluate": 3, "promote": 0}.items():  # it is promoted by force
        ended, said = run(folder, name, f"{name}.yaml", "--in-process")
        assert (ended, CANARY in said) == (code, False), said
    given = {"evaluate.yaml", "promote.yaml"}
    assert [leak for leak in leaks(folder) if leak.partition(":")[0] not in given] == []
    card = next(folder.rglob("card.md")).read_text(encoding="utf-8")
    assert "Owner: \\*\\*\\*" in card
    assert list(folder.rglob("verdict.json"))


class Failing(http.server.BaseHTTPRequestHandler):
    """A server that is there, and answers everything with an error that tells what it was asked with."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 500)
        self.end_headers()
        self.wfile.write(f"login {self.headers.get('Authorization')} of ann:cAnArY-server".encode())

    do_POST = do_GET  # noqa: N815 (the names are http.server's)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.mark.parametrize("options", [(), ("--in-process",)], ids=["notebook", "in process"])
def test_no_secret_of_a_server_that_fails(options: tuple[str, ...], folder: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://ann:cAnArY-server@127.0.0.1:{server.server_port}"
    ended, said = run(
        folder, "train", *options, "--debug", "-s", f"job.mlflow_service.tracking_uri={address}"
    )
    server.shutdown()
    login = base64.b64encode(b"ann:cAnArY-server").decode()
    assert (ended, CANARY in said, login in said) == (1, False, False), said
    assert leaks(folder) == []
