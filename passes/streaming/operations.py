"""The operations of a training graph whose batch is cut into parts: which go part by part, what waits for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from mgc.ir.graph import Node, Value
from mgc.passes.durations import Durations, Source, nbytes
from mgc.passes.operations import Work
from mgc.passes.plan import Operation, OperationKind
from mgc.passes.streaming.analysis import Streaming
from mgc.passes.training_operations import TrainingBuilder


@dataclass
class StreamedBuilder(TrainingBuilder):
    """`TrainingBuilder` for a run in `streaming.split` parts; with one part it is the same.

    Of what an operation adds up over the batch each part takes its share of the traffic: it is kept where it is added.
    `done` has for each operation, as bits, those all of whose parts end before its first.
    """

    streaming: Streaming = field(default_factory=Streaming)
    done: list[int] = field(default_factory=list)
    node: Node | None = None
    versions: list[tuple[str, int, bool]] = field(default_factory=list)

    def build(self) -> Work:
        """All operations; `sizes` of the result are those of a part, for what is there part by part."""
        work = super().build()
        split, axes = self.streaming.split, self.streaming.axes
        sizes = {v: -(-n // split) if v in axes else n for v, n in work.sizes.items()}
        return replace(work, sizes=sizes, versions=tuple(self.versions))

    # -- one at a time ---------------------------------------------------------------------------------------------

    def _take(self, streamed: bool, node: Node | None = None) -> None:
        """The next operations take the batch part by part, or all of it."""
        self.durations = Durations(self.target, self.streaming.split if streamed else 1)
        self.node = node

    def _loaded(self) -> Iterator[tuple[int, Value]]:
        for port, value in super()._loaded():
            self._take(value in self.streaming.axes)
            yield port, value

    def _stored(self) -> Iterator[tuple[int, Value]]:
        for port, value in super()._stored():
            self._take(value in self.streaming.axes)
            yield port, value

    def _node(self, node: Node) -> None:
        self._take(node in self.streaming.nodes, node)
        super()._node(node)

    def _source(self, value: Value, size: int | None = None) -> Source:
        found = super()._source(value, nbytes(value) if size is None else size)
        parts = self.durations.parts
        shared = value in self.streaming.axes or (self.node is not None and value in self.node.outputs)
        return replace(found, size=-(-found.size // parts)) if shared else found

    # -- what waits for what ---------------------------------------------------------------------------------------

    def _read_version(self, home: str, index: int, wait: dict[int, None]) -> None:
        self.versions.append((home, index, False))
        super()._read_version(home, index, wait)

    def _write_version(self, home: str, index: int, wait: dict[int, None]) -> None:
        self.versions.append((home, index, True))
        super()._write_version(home, index, wait)

    def _add(
        self,
        kind: OperationKind,
        unit: int,
        duration: int,
        read: Sequence[Value],
        written: Sequence[Value],
        also: Sequence[int] = (),
        **fields: object,
    ) -> int:
        index, streamed = len(self.operations), self.durations.parts > 1
        part: dict[int, None] = dict.fromkeys(also)  # the same part of these must have ended
        every: dict[int, None] = {}  # all of these
        for value in read:
            root = self.root[value]
            if root in self.homes:
                self._read_version(self.homes[root], index, every)
            elif root not in self.graph.constants:
                (part if value in self.streaming.axes else every).update(dict.fromkeys(self.writers[root]))
                readers = self.readers.setdefault(root, [])
                if not readers or readers[-1] != index:
                    readers.append(index)
        for value in written:
            if value in self.homes:
                self._write_version(self.homes[value], index, every)
            else:
                self.writers.setdefault(value, []).append(index)
        after, after_all = self._reduced(part, every, streamed)
        made = Operation(kind, unit, duration, after, after_all=after_all, streamed=streamed)
        self.operations.append(replace(made, **fields))
        return index

    def _reduced(
        self, part: Iterable[int], every: Iterable[int], streamed: bool
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Those to wait for that no other one implies, part by part and whole; takes down all that comes before."""
        operations = self.operations
        strong = dict.fromkeys(every)
        weak: dict[int, None] = {}
        for i in part:
            # what is not streamed has one task, which is all of it; and so waits who is not
            (weak if streamed and operations[i].streamed else strong)[i] = None
        after: list[int] = []
        after_all: list[int] = []
        before = done = 0
        for i in sorted({**weak, **strong}, reverse=True):
            if done >> i & 1 or (i not in strong and before >> i & 1):
                continue
            if i in strong:
                done |= self.ancestors[i] | 1 << i
                before |= done
                (after_all if streamed and operations[i].streamed else after).append(i)
            else:
                before |= self.ancestors[i] | 1 << i
                done |= self.done[i]
                after.append(i)
        self.ancestors.append(before)
        self.done.append(done)
        return tuple(sorted(after)), tuple(sorted(after_all))
