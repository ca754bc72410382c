"""What is compiled: right values, also where compiled code cannot be kept."""

import json
import subprocess
import sys

import numpy as np

WITHOUT_A_FOLDER = """
from numba.core import caching
caching.CacheImpl._locator_classes = []  # what numba is left with when it can write neither here nor there
import json
import numpy as np
from model_name.core import compiled
nodes = np.zeros(5, compiled.NODE)
nodes["left"], nodes["right"] = [1, 0, 3, 0, 0], [2, 0, 4, 0, 0]
nodes["column"] = nodes["player"] = [0, -1, 1, -1, -1]
nodes["labels"] = -1
answers = np.array([[0.0], [0.0], [0.0], [10.0], [30.0]])
shares = np.array([[1, 1 / 2, 1 / 3], [1 / 2, 1 / 6, 1 / 12], [1 / 3, 1 / 12, 1 / 30]])
values = compiled.tree_shap(
    nodes, answers, np.zeros((1, 8), np.uint32), np.zeros(1, np.int64), np.array([[1, 1], [1, 0], [0, 1]], "i2"),
    np.array([[0, 0], [1, 1]], "i2"), 2, shares, 2,
)
print(json.dumps(values[:, :, 0].tolist()))
"""


def test_code_is_compiled_where_it_cannot_be_kept() -> None:
    ended = subprocess.run([sys.executable, "-c", WITHOUT_A_FOLDER], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    # means over two rows: beside (1, 1), player 0 of the sample (0, 1) makes 30 into 0; beside (0, 0) nothing
    expected = [[10, 5], [5, -10], [-15, 0]]
    assert np.allclose(json.loads(ended.stdout), expected)
