"""Build the distribution from settings.ini, the one place for its metadata."""

import configparser
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

# What travels in the wheel although it lives outside the package. A checkout uses its own files.
RESOURCES = [
    ("confs", "confs", "*.yaml"),
    ("runs", "nbs/runs", "*.ipynb"),
    ("project", "nbs/scaffold/_project", "**/*"),  # the files of a new project
    ("", "", "requirements.lock"),
    ("", "", "settings.ini"),
]
BYPRODUCTS = {"__pycache__", ".ipynb_checkpoints", ".ruff_cache"}


class BuildWithResources(build_py):
    """Copy what projects are made of and what jobs run into the built package; an editable install needs no copy."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        resources = Path(self.build_lib, "model_name", "_resources")
        shutil.rmtree(resources, ignore_errors=True)
        for name, folder, pattern in RESOURCES:
            for source in sorted((ROOT / folder).glob(pattern)):
                place = resources / name / source.relative_to(ROOT / folder)
                if source.is_file() and not BYPRODUCTS & set(source.parts):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, place)


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
    long_description=readme.read_text(encoding="utf-8")
    if readme.exists()
    else metadata["description"],
    long_description_content_type="text/markdown",
    author=metadata["author"],
    license=metadata["license"],
    license_files=["LICENSE"],
    keywords=[word.strip() for word in metadata["keywords"].split(",")],
    classifiers=[
        f"Programming Language :: Python :: {version}" for version in metadata["pythons"].split()
    ],
    python_requires=f">={metadata['min_python']}",
    install_requires=lines(settings["requirements"]["runtime"]),
    extras_require={extra: lines(text) for extra, text in settings["extras"].items()},
    entry_points={group: lines(metadata[group]) for group in ("console_scripts", "nbdev")},
    packages=find_packages(include=["model_name", "model_name.*"]),
    package_dir={
        "": "."
    },  # an editable install is then one line with this path, which editors follow
    package_data={"model_name": ["py.typed"]},
    cmdclass={"build_py": BuildWithResources},
)
