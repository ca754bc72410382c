"""What is compiled: also where nothing that was compiled can be kept."""

import subprocess
import sys

WITHOUT_A_FOLDER = """
from numba.core import caching
caching.CacheImpl._locator_classes = []  # what numba is left with when it can write neither here nor there
import numpy as np
from model_name.core import trees
nodes = np.zeros(1, trees.NODE)
nodes["column"] = -1
values, shares = np.ones((1, 1)), np.ones((2, 2))
found = trees.tree_shap(
    nodes, values, np.zeros((1, 8), np.uint32), np.zeros(1, np.int64), np.zeros((3, 1), np.int16),
    np.zeros((2, 1), np.int16), 1, shares, 1,
)
print(found.shape, found.sum())
"""


def test_code_is_compiled_where_it_cannot_be_kept() -> None:
    ended = subprocess.run([sys.executable, "-c", WITHOUT_A_FOLDER], capture_output=True, text=True)
    assert ended.stdout == "(3, 1, 1) 0.0\n", ended.stderr
