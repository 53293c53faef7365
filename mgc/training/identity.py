"""Which program a checkpoint belongs to."""

from __future__ import annotations

import hashlib

import numpy as np

from mgc.isa.codec import encode
from mgc.isa.manifest import canonical, to_manifest
from mgc.isa.program import Program


def program_hash(program: Program) -> str:
    """SHA-256 of all that a program is, wherever it is stored."""
    digest = hashlib.sha256(canonical(to_manifest(program)).encode())
    streams = encode(program.instructions, len(program.units))
    arrays = {
        "records": streams.records.view(np.uint8),
        "words": streams.words,
        "reals": streams.reals,
        **{f"starts/{e.id}": e.schedule.starts.astype(np.int64) for e in program.entries},
        **{f"tensor/{name}": program.tensors[name] for name in sorted(program.tensors)},
    }
    for name, array in arrays.items():
        digest.update(f"\n{name} {array.dtype.str} {list(array.shape)}\n".encode())
        if array.size:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
