"""mgc, the Memristor GAN Compiler: ONNX GANs to memristor-crossbar programs, and a simulator that runs them.

    program = mgc.compile("generator.onnx", batch=16)
    program.save("generator.mgc")
    images = mgc.Simulator(program).run({"z": noise})["image"]

Names are imported on first use, so that `import mgc` and `mgc --help` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mgc.version import VERSION

if TYPE_CHECKING:
    from mgc.compiler import compile, compile_training
    from mgc.explore.sweep import sweep
    from mgc.program import Program
    from mgc.simulator import Simulator
    from mgc.targets.description import Target
    from mgc.targets.loader import load_target

__version__ = VERSION

_HOME = {
    "compile": "mgc.compiler",
    "compile_training": "mgc.compiler",
    "Program": "mgc.program",
    "Simulator": "mgc.simulator",
    "Target": "mgc.targets.description",
    "load_target": "mgc.targets.loader",
    "sweep": "mgc.explore.sweep",
}

__all__ = ["Program", "Simulator", "Target", "__version__", "compile", "compile_training", "load_target", "sweep"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mgc' has no attribute {name!r}")
