"""Build the distribution from settings.ini, the one place for its metadata."""

import configparser
import shutil
import subprocess  # template: only here
import zipfile  # template: only here
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

# What travels in the wheel although it lives outside the package. A checkout uses its own files.
RESOURCES = {"confs": ("confs", "*.yaml"), "runs": ("nbs/runs", "*.ipynb")}


class BuildWithResources(build_py):
    """Copy configurations and job notebooks into the built package; an editable install needs no copy."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for name, (folder, pattern) in RESOURCES.items():
            place = Path(self.build_lib, "model_name", "_resources", name)
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            for source in sorted((ROOT / folder).glob(pattern)):
                shutil.copyfile(source, place / source.name)
        archive_template(Path(self.build_lib, "model_name", "_resources", "template.zip"))  # template: only here


# template: from here
# Left in the folder by tools, if the sources are not a git checkout: an unpacked sdist, or a copy.
BYPRODUCTS = {".venv", "build", "dist", "data", "outputs", "__pycache__", "PKG-INFO", "setup.cfg", "mlflow.db"}


def template_files() -> list[str]:
    """Name the files that new projects are made of: those that git knows, or all that an sdist holds."""
    if (ROOT / ".git").exists():
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        return sorted(name for name in names if name and (ROOT / name).is_file())
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return sorted(
        path.as_posix()
        for path in paths
        if not BYPRODUCTS & set(path.parts) and not any(part.endswith((".egg-info", "_cache")) for part in path.parts)
    )


def archive_template(place: Path) -> None:
    """Pack what `model_name new` copies; the same files give the same bytes."""
    with zipfile.ZipFile(place, "w") as archive:
        for name in template_files():
            entry = zipfile.ZipInfo(name)  # dated 1980, the first year that archives know
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if (ROOT / name).stat().st_mode & 0o100 else 0o644) << 16
            archive.writestr(entry, (ROOT / name).read_bytes())


# template: to here


def lines(text: str) -> list[str]:
    """Give the non-empty lines of a value that is a list."""
    return [line.strip() for line in text.splitlines() if line.strip()]


settings = configparser.ConfigParser(inline_comment_prefixes=("#",))
settings.read(ROOT / "settings.ini", encoding="utf-8")
metadata = settings["metadata"]
readme = ROOT / "README.md"

setup(
    name=metadata["name"],
    version=metadata["version"],
    description=metadata["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else metadata["description"],
    long_description_content_type="text/markdown",
    author=metadata["author"],
    license=metadata["license"],
    license_files=["LICENSE"],
    keywords=[word.strip() for word in metadata["keywords"].split(",")],
    classifiers=[f"Programming Language :: Python :: {version}" for version in metadata["pythons"].split()],
    python_requires=f">={metadata['min_python']}",
    install_requires=lines(settings["requirements"]["runtime"]),
    extras_require={extra: lines(text) for extra, text in settings["extras"].items()},
    entry_points={group: lines(metadata[group]) for group in ("console_scripts", "nbdev")},
    packages=find_packages(include=["model_name", "model_name.*"]),
    package_dir={"": "."},  # an editable install is then one line with this path, which editors follow
    package_data={"model_name": ["py.typed"]},
    cmdclass={"build_py": BuildWithResources},
)
