"""Documentation that is made from notebooks."""

from invoke import Context, task

from tasks.notebooks import ROOT

README = ROOT / "README.md"


def rendered() -> str:
    """Give README.md as `nbs/index.ipynb` says it."""
    from nbconvert import MarkdownExporter

    body, _ = MarkdownExporter().from_filename(str(ROOT / "nbs" / "index.ipynb"))
    return f"<!-- made from nbs/index.ipynb by `inv docs.readme`; edit the notebook -->\n\n{body.strip()}\n"


@task
def readme(_c: Context) -> None:
    """Write README.md from nbs/index.ipynb."""
    README.write_text(rendered(), encoding="utf-8")
