"""What is compiled: right values, also where compiled code cannot be kept."""

import json
import subprocess
import sys

import numpy as np

from model_name.core import compiled

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


def test_bits_of_categories_and_missing_values_decide_a_prediction() -> None:
    nodes = np.zeros(
        3,
        [
            *((n, "i4") for n in ("left", "right", "column", "labels")),
            ("threshold", "f8"),
            ("missing_left", "?"),
        ],
    )
    nodes["left"], nodes["right"], nodes["column"] = [1, 0, 0], [2, 0, 0], [0, -1, -1]
    bits = np.zeros((1, 8), np.uint32)
    bits[0, 1] = 1 << 3  # the category 35
    rows = np.array([[35.0], [3.0], [np.nan], [-1.0]])
    values = np.array([0.0, 1.0, 2.0])
    for missing_left, expected in ((True, [1, 2, 1, 1]), (False, [1, 2, 2, 2])):
        nodes["missing_left"] = missing_left
        sums = compiled.predict_raw(nodes, values, bits, np.array([0]), rows, 10.0)
        assert (sums - 10).tolist() == expected
