"""The simulator's hand-made training programs serve here as well."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "sim"))
