"""The helpers that build programs live with the simulator's tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "sim"))
