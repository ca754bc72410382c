"""Build the distribution from settings.ini, the one place for its metadata."""

import configparser
from pathlib import Path

from setuptools import find_packages, setup

settings = configparser.ConfigParser(inline_comment_prefixes=("#",), interpolation=None)
settings.read(Path(__file__).with_name("settings.ini"), encoding="utf-8")
metadata = settings["metadata"]


def lines(text: str) -> list[str]:
    """Return the lines of a value that is a list."""
    return [line.strip() for line in text.splitlines() if line.strip()]


setup(
    name=metadata["name"],
    version=metadata["version"],
    description=metadata["description"],
    python_requires=f">={metadata['min_python']}",
    install_requires=lines(settings["requirements"]["runtime"]),
    entry_points={"console_scripts": lines(metadata["console_scripts"])},
    packages=find_packages(include=[metadata["name"], f"{metadata['name']}.*"]),
    package_dir={"": "."},
)
