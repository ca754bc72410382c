"""The command line of project_name: the library's, with this project's schema, configurations and notebooks."""

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run the command line for this project, from whatever folder, and leave the process."""
    os.environ["MODEL_NAME_PROJECT"] = str(PROJECT)  # read when the library is imported
    from model_name import scripts

    sys.exit(scripts.main(program="project_name"))


if __name__ == "__main__":
    main()
