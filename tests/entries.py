"""Programs with one entry, or its schedule, changed."""

from dataclasses import replace


def with_entry(program, number=0, **fields):
    """The program with fields of one entry replaced."""
    entries = list(program.entries)
    entries[number] = replace(entries[number], **fields)
    return replace(program, entries=tuple(entries))


def with_plan(program, number=0, **fields):
    """The program with fields of the schedule of one entry replaced."""
    return with_entry(program, number, schedule=replace(program.entries[number].schedule, **fields))
