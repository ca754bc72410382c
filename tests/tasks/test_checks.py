"""The checks find what they are for, and the audit tells clean from vulnerable from not asked."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import checks, containers

ROOT = Path(__file__).parents[2]
VULNERABLE = {
    "vulns": [
        {
            "id": "GHSA-xxxx-yyyy-zzzz",
            "summary": "It opens the door.",
            "affected": [
                {
                    "package": {"name": "example", "ecosystem": "PyPI"},
                    "ranges": [
                        {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}
                    ],
                    "versions": ["1.0"],
                }
            ],
        }
    ]
}


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve one answer to every question, as OSV's database does."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(request.param).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


def audit(tmp_path: Path, database: str) -> tuple[int, str]:
    lock = tmp_path / "requirements.lock"
    lock.write_text("example==1.0\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "invoke",
        "checks.audit",
        "--lock",
        str(lock),
        "--database",
        database,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("database", [VULNERABLE], indirect=True)
def test_audit_fails_on_a_known_vulnerability_and_names_it(tmp_path: Path, database: str) -> None:
    code, said = audit(tmp_path, database)
    assert code == 1
    assert "GHSA-xxxx-yyyy-zzzz" in said
    assert "inv installs.lock --package NAME" in said


@pytest.mark.parametrize("database", [{}], indirect=True)
def test_audit_passes_when_nothing_is_known(tmp_path: Path, database: str) -> None:
    code, said = audit(tmp_path, database)
    assert (code, "cannot be reached" in said) == (0, False)


def test_audit_says_when_it_could_not_ask(tmp_path: Path) -> None:
    code, said = audit(tmp_path, "http://127.0.0.1:1/v1/query")
    assert code == 0
    assert "not audited: the database of vulnerabilities cannot be reached" in said


def test_every_accepted_advisory_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in checks.ACCEPTED.values())


def test_tasks_start_without_what_only_some_of_them_need() -> None:
    """Each of these takes a second or more, at each start of `inv`."""
    code = "import sys, tasks; print({'nbformat', 'jsonschema', 'pandas', 'mlflow', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_reading_notebooks_compiles_no_grammars() -> None:
    code = "import sys, tasks, nbformat, nbconvert; print(sys.modules['rfc3987_syntax'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"


# ----------------------------------------------------------------------------------------------------- containers
def test_base_images_and_services_without_a_version_are_named() -> None:
    assert list(
        containers.unpinned(
            "ARG PYTHON=3.13-slim\nFROM python:${PYTHON} AS a\nFROM debian:12.1.0\n"
        )
    ) == [
        "Containerfile: 'ARG PYTHON=3.13-slim' names no exact version: a build next year would be another one"
    ]
    compose = "services:\n  a:\n    image: kafka:latest\n    ports: ['9092:9092']\n"
    assert list(containers.unhealthy(compose)) == [
        "compose.yaml: service a has image 'kafka:latest', which names no exact version",
        "compose.yaml: service a has no healthcheck",
        "compose.yaml: service a has other rights than it needs: cap_drop, security_opt",
        "compose.yaml: service a opens port 9092:9092 to the network: write 127.0.0.1:9092:9092",
    ]


def test_actions_and_services_are_fixed() -> None:
    assert list(
        containers.movable("steps:\n  - uses: a/b@v1\n  - name: x\n    uses: c/d@" + "0" * 40)
    ) == ["a/b@v1 is not pinned to a commit: write the 40 digits, and the version behind them"]
    assert list(containers.unhealthy(containers.COMPOSE.read_text(encoding="utf-8"))) == []
    assert containers.WORKFLOWS
    for path in containers.WORKFLOWS:
        assert list(containers.movable(path.read_text(encoding="utf-8"))) == []


def test_nothing_private_reaches_the_builder() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    sent = {path.relative_to(ROOT).as_posix() for name in ("confs", "nbs/runs", "model_name", "setup.py") for path in
            containers.context(name, ignore)}  # fmt: skip
    assert {
        "setup.py",
        "confs/train.yaml",
        "nbs/runs/train.ipynb",
        "model_name/core/schemas.py",
    } <= sent
    assert [name for name in sent if "__pycache__" in name] == []
    for private in (".git", "tests", "tasks", "nbs/core", ".github"):
        assert containers.context(private, ignore) == []


def test_rehearsal_does_what_the_containerfile_says(tmp_path: Path) -> None:
    text = (
        "FROM a AS build\nWORKDIR /src\nCOPY setup.py LICENSE ./\nCOPY confs confs\n"
        'RUN ls confs > /opt/list \\\n    # a comment in between\n    && echo "$GREETING" >> /opt/list\n'
        "FROM a\nRUN useradd me\nENV GREETING=hello PATH=/opt/bin:$PATH\nWORKDIR /work\n"
        'RUN cat /opt/list > copy && echo "$GREETING" >> copy\nENTRYPOINT ["cat", "copy"]\n'
    )
    (tmp_path / "opt").mkdir()
    rehearsal = containers.Rehearsal(tmp_path)
    for step in containers.steps(text):
        rehearsal.run(step)
    lines = (tmp_path / "work" / "copy").read_text(encoding="utf-8").split()
    assert lines == [*sorted(path.name for path in (ROOT / "confs").iterdir()), "hello"]
    assert rehearsal.variables["PATH"].startswith(f"{tmp_path}/opt/bin:{tmp_path}/python/bin:")
    assert (rehearsal.entrypoint, rehearsal.skipped) == (["cat", "copy"], ["useradd me"])
    assert sorted(path.name for path in (tmp_path / "src").iterdir()) == [
        "LICENSE",
        "confs",
        "setup.py",
    ]
