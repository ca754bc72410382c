"""Build the distribution."""

import os

from invoke import Context, task


@task
def build(c: Context) -> None:
    """Build the sdist, and from it the wheel, into dist/. The same commit gives the same wheel, byte for byte."""
    c.run("uv build --no-build-isolation --out-dir dist", env={"SOURCE_DATE_EPOCH": _date(c)})


def _date(c: Context) -> str:
    """Give the date that goes into the archives: of the last commit, in seconds since 1970."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return given
    result = c.run("git log -1 --format=%ct", hide=True, warn=True, echo=False)
    return result.stdout.strip() if result and result.ok else "315619200"  # 1980-01-02: archives know no earlier day
