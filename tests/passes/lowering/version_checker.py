"""An independent check of weight versions in time: knows instructions, their planned starts and what they touch."""

from __future__ import annotations


def version_faults(program):
    """Everything that is wrong, in words: who reads or writes crossbars and persistent buffers of a version that the
    order of instructions does not mean, by the planned starts, or while another one writes them.
    """
    faults = []
    touched = {}
    for i in program.instructions:
        if i.mnemonic == "program":
            continue
        start = program.entry.start(i.id)
        span = (start, start + i.duration)
        for what in {("group", g) for g in i.reads_groups()} | _persistent(program, i.reads()):
            touched.setdefault(what, []).append((i.id, "read", span))
        for what in {("group", g) for g in i.writes_groups()} | _persistent(program, i.writes()):
            touched.setdefault(what, []).append((i.id, "write", span))
    for what, uses in touched.items():
        writes = [(k, span) for k, kind, span in uses if kind == "write"]
        for k, kind, (begin, end) in uses:
            for j, (other_begin, other_end) in writes:
                if j == k:
                    continue
                if not (other_end <= begin if j < k else end <= other_begin):
                    faults.append(
                        f"{what}: {kind} by {k} at {begin}..{end}, write by {j} at {other_begin}..{other_end}"
                    )
    return faults


def _persistent(program, buffers):
    roots = {program.root(b) for b in buffers}
    return {("buffer", r) for r in roots if program.buffers[r].persistent}
