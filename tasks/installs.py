"""Set up the environment and keep the lock file."""

import shlex
import shutil
import tempfile
from pathlib import Path

from invoke import Context, Exit, task

from tasks import brokers

GIT = {
    "filter.nbclean.clean": ".venv/bin/python -I tasks/notebooks.py",
    "merge.nbmerge.name": "merge notebooks cell by cell",
    "merge.nbmerge.driver": ".venv/bin/nbdev-merge %O %A %B %P",
}


@task(
    help={
        "upgrade": "take the newest versions of everything",
        "package": "take the newest version of this package only (can be repeated)",
    },
    iterable=["package"],
)
def lock(c: Context, package: list[str], upgrade: bool = False) -> None:
    """Write requirements.lock from settings.ini: one file for all systems and Pythons, hashed, without addresses.

    Holds what runs and what develops the project, which is what `make install` installs. The extras `dask` and `docs`
    stay outside: few need them, and they would make every installation larger.
    """
    command = [
        "uv pip compile setup.py --extra dev --universal --python-version 3.11 --generate-hashes",
        "--no-emit-index-url --no-emit-find-links --custom-compile-command 'inv installs.lock'",
        "--quiet --output-file requirements.lock",
    ]
    command += ["--upgrade"] if upgrade else []
    command += [f"--upgrade-package {shlex.quote(name)}" for name in package]
    c.run(" ".join(command))


@task
def git(c: Context) -> None:
    """Tell git how to clean and merge notebooks in this clone (.gitattributes names the drivers)."""
    if not Path(".git").exists():
        print("Not a git checkout: no notebook filter to register.")
        return
    for key, value in GIT.items():
        c.run(f"git config --local {key} {shlex.quote(value)}", echo=False)


# Maven knows where its repository is, or its settings say so: no address is written here.
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>model_name</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


@task
def kafka(c: Context) -> None:
    """Bring Apache Kafka, for tests on a real broker, into a cache outside the repository (needs Java and Maven)."""
    place = brokers.libraries()
    if place.is_dir():
        print(f"Apache Kafka {brokers.VERSION} is at {place}")
        return
    absent = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if absent:
        raise Exit(f"Apache Kafka needs {' and '.join(absent)}: apt-get install default-jre-headless maven")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        Path(folder, "pom.xml").write_text(POM.format(version=brokers.VERSION), encoding="utf-8")
        with c.cd(folder):
            c.run("mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=libraries")
        Path(folder, "libraries").rename(place)
    print(f"Apache Kafka {brokers.VERSION} is now at {place}")
