"""A thin layer over llvmlite for writing kernels: variables, loops, vectors of floats."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from llvmlite import ir

Value: TypeAlias = Any  # an ir.Value; llvmlite has no types
Type: TypeAlias = Any  # an ir.Type

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
FLOAT, DOUBLE, HALF = ir.FloatType(), ir.DoubleType(), ir.HalfType()
POINTER, VOID = ir.PointerType(), ir.VoidType()

_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.44269504088896341, 0.693359375, -2.12194440e-4
_EXP_POLYNOMIAL = 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1
_LEAST_EXPONENT, _LARGEST_EXPONENT = -87.0, 88.0


def index(value: int | Value) -> Value:
    """A 64-bit integer: `value` itself unless it is Python's."""
    return I64(value) if isinstance(value, int) else value


class Emitter:
    """One function of a module, written from its first instruction to its last."""

    def __init__(self, module: Any, name: str, arguments: Sequence[Type], *, shared: bool = False) -> None:
        """A function without a result; only `shared` ones are seen from outside."""
        self.module = module
        self.function = ir.Function(module, ir.FunctionType(VOID, arguments), name)
        self.function.linkage = "external" if shared else "internal"
        self._entry = self.function.append_basic_block("entry")
        self.b = ir.IRBuilder(self.function.append_basic_block("body"))
        self.arguments = self.function.args

    def end(self) -> None:
        """The function returns here."""
        self.b.ret_void()
        with self.b.goto_block(self._entry):
            self.b.branch(self.function.basic_blocks[1])

    def variable(self, kind: Type, value: Value | None = None) -> Value:
        """Room for a value, which becomes a register where it can."""
        with self.b.goto_block(self._entry):
            room = self.b.alloca(kind)
            room.type = POINTER  # llvmlite still types those from alloca
        if value is not None:
            self.b.store(value, room)
        return room

    @contextmanager
    def loop(self, begin: int | Value, end: int | Value, step: int | Value = 1) -> Iterator[Value]:
        """For begin, begin + step, ... below `end`."""
        b, counter = self.b, self.variable(I64, index(begin))
        test, body, behind = (self.function.append_basic_block(name) for name in ("test", "loop", "behind"))
        b.branch(test)
        b.position_at_end(test)
        i = b.load(counter, typ=I64)
        b.cbranch(b.icmp_signed("<", i, index(end)), body, behind)
        b.position_at_end(body)
        yield i
        b.store(b.add(i, index(step)), counter)
        b.branch(test)
        b.position_at_end(behind)

    def call_by_count(self, count: Value, functions: Sequence[Value], arguments: Sequence[Value]) -> None:
        """Calls the first function where the count is 1, the second where it is 2, ..., the last one from its own
        number on."""
        b = self.b
        behind, full = (self.function.append_basic_block(name) for name in ("behind", "full"))
        choice = b.switch(count, full)
        for number, function in enumerate(functions, start=1):
            block = full if number == len(functions) else self.function.append_basic_block("few")
            if number < len(functions):
                choice.add_case(I64(number), block)
            b.position_at_end(block)
            b.call(function, arguments)
            b.branch(behind)
        b.position_at_end(behind)

    def at(self, base: Value, offset: int | Value, kind: Type = FLOAT) -> Value:
        """The address of element `offset` of an array of `kind`."""
        return self.b.gep(base, [index(offset)], source_etype=kind)

    def load(self, address: Value, kind: Type = FLOAT) -> Value:
        """What is there; vectors need not be aligned to more than their elements."""
        return self.b.load(address, align=_alignment(kind), typ=kind)

    def store(self, value: Value, address: Value) -> None:
        """Put it there; see `load`."""
        self.b.store(value, address, align=_alignment(value.type))

    def splat(self, value: Value, lanes: int) -> Value:
        """A vector of `lanes` times the value."""
        kind = ir.VectorType(value.type, lanes)
        first = self.b.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
        return self.b.shuffle_vector(
            first, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), None)
        )

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once."""
        return self._intrinsic("fma", a, b, c)

    def root(self, a: Value) -> Value:
        """The square root."""
        return self._intrinsic("sqrt", a)

    def size(self, a: Value) -> Value:
        """Without its sign."""
        return self._intrinsic("fabs", a)

    def ceil(self, a: Value) -> Value:
        """The nearest whole number that is not below it."""
        return self._intrinsic("ceil", a)

    def rint(self, a: Value) -> Value:
        """The nearest whole number."""
        return self._intrinsic("rint", a)

    def prefetch(self, address: Value) -> None:
        """It will be read soon, once."""
        kind = ir.FunctionType(VOID, [POINTER, I32, I32, I32])
        self.b.call(self._declared("llvm.prefetch.p0", kind), [address, I32(0), I32(3), I32(1)])

    def call(self, name: str, result: Type, *operands: Value) -> Value:
        """An intrinsic function of LLVM's."""
        kind = ir.FunctionType(result, [operand.type for operand in operands])
        return self.b.call(self._declared(name, kind), operands)

    def ticks(self) -> Value:
        """A count of the processor's that grows evenly with time."""
        return self.call("llvm.readcyclecounter", I64)

    def larger(self, a: Value, b: Value) -> Value:
        """The larger of the two, lane by lane; a where one is not a number."""
        return self.b.select(self.b.fcmp_ordered(">", b, a), b, a)

    def sum(self, vector: Value) -> Value:
        """Of all lanes: halves are added until one is left."""
        return self.b.extract_element(self.folded(vector, 1, self.b.fadd), I32(0))

    def four_sums(self, vectors: Sequence[Value]) -> Value:
        """The sums of all lanes of four vectors, in one of four lanes."""
        lanes = vectors[0].type.count
        groups = range(0, lanes, 4)

        def joined(one: Value, other: Value, low: Sequence[int], high: Sequence[int]) -> Value:
            """Two choices of the lanes of each four of both, added; from 4 on they are those of `other`."""
            masks = ([g + i % 4 + lanes * (i // 4) for g in groups for i in part] for part in (low, high))
            return self.b.fadd(*(self._shuffled(one, other, mask) for mask in masks))

        first, second, third, fourth = vectors
        low, high = (joined(*pair, (0, 4, 1, 5), (2, 6, 3, 7)) for pair in ((first, second), (third, fourth)))
        return self.folded(joined(low, high, (0, 1, 4, 5), (2, 3, 6, 7)), 4, self.b.fadd)

    def folded(self, vector: Value, lanes: int, operation: Callable[[Value, Value], Value]) -> Value:
        """Halves are joined until so many lanes are left."""
        while (count := vector.type.count) > lanes:
            halves = (self._shuffled(vector, vector, part) for part in (range(count // 2), range(count // 2, count)))
            vector = operation(*halves)
        return vector

    def spread(self, vector: Value, lanes: int) -> Value:
        """Its lanes again and again, up to so many."""
        return self._shuffled(vector, vector, [lane % vector.type.count for lane in range(lanes)])

    def exp(self, x: Value) -> Value:
        """e^x of each lane, to the last bit or two; 0 below -87, and no more than e^88. The reduction and the
        polynomial are those of Cephes' expf (Moshier 1992)."""
        b, lanes = self.b, x.type.count
        tiny = b.fcmp_ordered("<", x, self._all(_LEAST_EXPONENT, lanes))
        top = self._all(_LARGEST_EXPONENT, lanes)
        y = b.select(tiny, self._all(_LEAST_EXPONENT, lanes), x)
        y = b.select(b.fcmp_ordered(">", y, top), top, y)
        n = self.rint(b.fmul(y, self._all(_LOG2_E, lanes)))
        r = self.fma(n, self._all(-_LN2_LOW, lanes), self.fma(n, self._all(-_LN2_HIGH, lanes), y))
        p = self._all(_EXP_POLYNOMIAL[0], lanes)
        for factor in _EXP_POLYNOMIAL[1:]:
            p = self.fma(p, r, self._all(factor, lanes))
        p = b.fadd(self.fma(p, b.fmul(r, r), r), self._all(1.0, lanes))
        whole = ir.VectorType(I32, lanes)
        power = b.shl(b.add(b.fptosi(n, whole), ir.Constant(whole, [127] * lanes)), ir.Constant(whole, [23] * lanes))
        found = b.fmul(p, b.bitcast(power, x.type))
        return b.select(tiny, self._all(0.0, lanes), found)

    def _all(self, value: float, lanes: int) -> Value:
        return ir.Constant(ir.VectorType(FLOAT, lanes), [single(value)] * lanes)

    def _shuffled(self, one: Value, other: Value, lanes: Sequence[int]) -> Value:
        return self.b.shuffle_vector(one, other, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))

    def _intrinsic(self, name: str, *operands: Value) -> Value:
        kind = operands[0].type
        suffix = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
        function = self._declared(f"llvm.{name}.{suffix}", ir.FunctionType(kind, [kind] * len(operands)))
        return self.b.call(function, operands)

    def _declared(self, name: str, kind: Any) -> Any:
        return self.module.globals.get(name) or ir.Function(self.module, kind, name)


def _alignment(kind: Type) -> int:
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    if element in (POINTER, DOUBLE):
        return 8
    return 4 if element == FLOAT else 2 if element == HALF else int(element.width) // 8


def single(value: float) -> float:
    """The nearest float32, which llvmlite wants."""
    return float(struct.unpack("f", struct.pack("f", value))[0])
