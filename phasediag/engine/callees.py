"""Functions that compiled functions call, as parts of their callers.

Of every function that a compiled one calls, numba makes a library: it optimises the function with all that it calls, and makes machine code
of it and of two wrappers, again and again up the calls. Only what Python calls needs this. Here, a function that is called from a compiled
one is lowered to LLVM's intermediate code and handed to its callers as it is: it is optimised there. The engine compiles in half the time.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from numba.core import codegen, compiler, compiler_lock, compiler_machinery, registry, typed_passes

# What numba makes of these for type checkers changes with its version.
Library: Any = codegen.JITCodeLibrary
Compiler: Any = compiler.CompilerBase
Builder: Any = compiler.DefaultPassBuilder
Dispatcher: Any = registry.CPUDispatcher
Lock: Any = compiler_lock.global_compiler_lock
Lowering: Any = typed_passes.NativeLowering
register: Any = compiler_machinery.register_pass

RARELY = 100_000, 50, 100
"""Thresholds of the garbage collector while numba compiles: of the millions of small objects that it makes, most are in use until its end,
and looking through them at the usual ones takes a sixth of the time. A process needs 70 MB more."""


class _Library(Library):  # type: ignore[misc]
    """Intermediate code to be linked into other libraries."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _Key:
    """What numba finds the code of a callee by, in the place of a function that Python could call."""


@register(mutates_CFG=False, analysis_only=False)
class _Lowering(Lowering):  # type: ignore[misc]
    _name = "lowering_of_callees"

    def run_pass(self, state: Any) -> bool:
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        key, lowered = _Key(), state["cr"]
        state.targetctx.insert_user_function(key, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=key)
        return True


class _Compiler(Compiler):  # type: ignore[misc]
    def define_pipelines(self) -> list[Any]:
        passes = Builder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_Lowering, Lowering)
        passes.passes = [one for one in passes.passes if one[0] is not Lowering]
        passes.finalize()
        return [passes]


class _Callee(Dispatcher):  # type: ignore[misc]
    """A function as compiled ones call it."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        options = {**options, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        super().__init__(function, targetoptions=options, pipeline_class=_Compiler)

    def add_overload(self, compiled: Any) -> None:
        """Numba's own would also offer it to Python."""
        self.overloads[tuple(compiled.signature.args)] = compiled


class Function(Dispatcher):  # type: ignore[misc]
    """A function as Python calls it; compiled functions that call it find its `_Callee`.

    Args:
        function: in Python.
        options: those of `numba.njit`.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        options = {"nopython": True, "boundscheck": None, **options}
        super().__init__(function, targetoptions={**options, "no_cfunc_wrapper": True})
        self._callee = _Callee(function, options)

    def compile(self, signature: Any) -> Any:
        """Compiles this function with its callees, or loads what is kept."""
        with Lock:
            usual = gc.get_threshold()
            gc.set_threshold(*RARELY)
            try:
                return super().compile(signature)
            finally:
                gc.set_threshold(*usual)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What numba asks for when a compiled function calls this one: its type."""
        return self._callee.get_call_template(args, kws)

    def get_overload(self, sig: Any) -> Any:
        """And then: its code."""
        return self._callee.get_overload(sig)
