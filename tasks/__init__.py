"""The project's tasks: `inv --list` shows them, `inv --help TASK` explains one."""

import os
import sys
from pathlib import Path

from invoke import Collection

from tasks import (
    checks,
    cleans,
    commits,
    containers,
    formats,
    installs,
    packages,
    projects,
    tracking,
)
from tasks.site import diagrams, docs

namespace = Collection(
    checks, cleans, commits, containers, diagrams, docs, formats, installs, packages, projects
)
# invoke puts this folder on the path, where a file named mlflow.py would hide the library
namespace.add_collection(Collection.from_module(tracking, name="mlflow"))
# Tools come from the environment that runs the tasks, and none of them asks for input.
os.environ["PATH"] = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
)
namespace.configure({"run": {"echo": True, "echo_format": "$ {command}", "in_stream": False}})
