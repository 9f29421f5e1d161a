"""Functions that LLVM makes of a module."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from functools import cache, update_wrapper
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

from specterm.kernels.kept_code import KeptCode
from specterm.kernels.machine import Machine

Kernel: TypeAlias = Callable[..., None]
ADDRESS, WHOLE, DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_Asked = ParamSpec("_Asked")
_Made = TypeVar("_Made")
_COMPILING = threading.RLock()  # what one kernel is made of is compiled within it


class once(Generic[_Asked, _Made]):  # noqa: N801  # a decorator
    """Like `functools.cache`, and what several threads ask for at the same time is made once.

    The cache alone would keep that of one thread only: the code of the others would go, to which modules that were
    linked in between jump.
    """

    def __init__(self, make: Callable[_Asked, _Made]) -> None:
        self._kept = cache(make)
        self.cache_clear = self._kept.cache_clear
        update_wrapper(self, make)

    def __call__(self, *asked: _Asked.args, **named: _Asked.kwargs) -> _Made:
        with _COMPILING:
            return self._kept(*asked, **named)  # type: ignore[arg-type]  # whoever cannot be hashed is told so


class Library:
    """Machine code of one module; it stays as long as this object."""

    def __init__(self, machine: Machine, module: Any) -> None:
        """module: an ir.Module, whose shared functions are compiled for `machine`.

        Raises:
            RuntimeError: LLVM refuses.
        """
        import llvmlite
        from llvmlite import binding

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        features, text = "+amx-tile,+amx-bf16,+amx-int8" if machine.tiles else "", str(module)
        target = binding.Target.from_default_triple().create_target_machine(
            cpu=machine.cpu, features=features, opt=2, jit=True
        )
        parsed = binding.parse_assembly(text)
        parsed.triple, parsed.data_layout = target.triple, str(target.target_data)
        kept = KeptCode(llvmlite.__version__, target.triple, machine.cpu, features, text)
        code = kept.read()
        if code is None:
            options = binding.create_pipeline_tuning_options(speed_level=2)
            # The kernels say themselves what is a vector; loops that are short are not to become long code.
            options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
            builder = binding.create_pass_builder(target, options)
            builder.getModulePassManager().run(parsed, builder)
        self._engine = binding.create_mcjit_compiler(parsed, target)
        self._engine.set_object_cache(lambda _, made: kept.write(made), lambda _: code)
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Where a function begins."""
        return int(self._engine.get_function_address(name))

    def share(self, name: str) -> None:
        """Modules that are linked from now on find the function of this name."""
        _share(name, self.address(name))

    def function(self, name: str, types: Sequence[Any]) -> Kernel:
        """A function without a result, to be called with arguments of these `types`; others of Python's threads run
        while it does."""
        address = self.address(name)
        function = ctypes.CFUNCTYPE(None, *types)(address)
        function.library, function.address = self, address  # type: ignore[attr-defined]  # code goes with its library
        return function


def named(name: str, kernel: Kernel) -> None:
    """Modules that are linked from now on find it."""
    _share(name, kernel.address)  # type: ignore[attr-defined]


def _share(name: str, address: int) -> None:
    from llvmlite import binding

    binding.add_symbol(name, address)
