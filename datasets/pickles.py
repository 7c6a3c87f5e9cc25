"""Pickles of numpy arrays and plain containers, read without running anything that they ask for.

A pickle is a program; unpickling one runs it. The field passes labels and annotations around as pickles, so they are read
by an interpreter of its own: it knows the few instructions that build numbers, texts, lists, tuples, dictionaries and
arrays, and the names by which numpy's arrays are stored stand for functions in this file. Everything else is refused.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from engine.config import BenchError

_OPCODES = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT LONG BININT BININT1 BININT2 LONG1 LONG4 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 LIST EMPTY_LIST DICT EMPTY_DICT APPEND APPENDS SETITEM SETITEMS GET "
    "BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD"
)
_NDARRAY = "numpy.ndarray"
"""Stands for the class where a pickle names it; nothing can be called through it."""


class _RefusedError(ValueError):
    """The pickle asks for something that is no array and no plain container."""


class _Dtype:
    """A dtype of numbers or texts, as a pickle spells it: a code, then its byte order."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?([biuf]\d{1,2}|[SU]\d{1,6})", code):
            raise _RefusedError(f"arrays of numbers and texts are read, and this one is of dtype {_short(code)}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise _RefusedError(f"a dtype has byte order {_short(order)}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray[Any, Any]):
    """An array whose content comes in a second step, as pickles have it."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, raw = state if len(state) == 5 else (1, *state)
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # written by Python 2
        _check_content(shape, dtype, raw)
        content: Any = (1, shape, dtype.dtype, bool(by_columns), bytes(raw))
        super().__setstate__(content)


def _reconstruct(subtype: Any, shape: Any, code: Any) -> _Array:
    if subtype is not _NDARRAY:
        raise _RefusedError("an array is of another class than numpy.ndarray")
    return _Array((0,), np.int8)


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> Any:
    _check_content(shape, dtype, buffer)
    return np.frombuffer(bytes(buffer), dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, raw: Any) -> Any:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    _check_content((), dtype, raw)
    return np.frombuffer(raw, dtype.dtype)[0].item()


def _check_content(shape: Any, dtype: Any, raw: Any) -> None:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray):
        raise _RefusedError("an array is stored without plain content")
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 8:
        raise _RefusedError("an array has no proper shape")
    if (count := int(np.prod([dtype.dtype.itemsize, *shape], dtype=object))) != len(raw):
        raise _RefusedError(f"an array of shape {shape} needs {count} bytes and has {len(raw)}")


def _ordered() -> dict[str, Any]:
    return {}


def _no_bytes() -> bytes:
    return b""


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


_NAMES: dict[str, Any] = {
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _Dtype,
    "collections.OrderedDict": _ordered,
    # How protocols 0 to 2 write bytes.
    "_codecs.encode": _encode,
    **{f"{module}.bytes": _no_bytes for module in ("__builtin__", "builtins")},
}


class _Reader:
    """A file that gives no more than it holds, so that a wrong length costs no memory."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file = file
        self.size = size

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self.size - self.file.tell():
            raise EOFError("it is cut short")
        return self.file.read(count)

    def readline(self) -> bytes:
        return self.file.readline()


_PYTHONS: Any = pickle._Unpickler
"""The interpreter written in Python: its instructions can be chosen."""


class _Unpickler(_PYTHONS):  # type: ignore[misc]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: _PYTHONS.dispatch[code] for name in _OPCODES.split() for code in getattr(pickle, name)
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[f"{module}.{name}"]
        except KeyError:
            raise _RefusedError(
                f"it asks for {_short(f'{module}.{name}')}; only numpy arrays and plain containers are read from a pickle, "
                "since anything else could run code"
            ) from None

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], _Array | _Dtype):
            raise _RefusedError("it changes an object that is no array")
        super().load_build()

    def load_bytearray8(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def load_setitem(self) -> None:
        _check_key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        for key in self.stack[::2]:
            _check_key(key)
        super().load_setitems()

    def load_dict(self) -> None:
        for key in self.stack[::2]:
            _check_key(key)
        super().load_dict()

    dispatch |= {
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
    }


def _check_key(key: Any) -> None:
    if type(key) not in (str, int):  # a tuple of tuples of tuples takes for ever to hash
        raise _RefusedError(f"a key of a dictionary is of type {type(key).__name__}; words and whole numbers are read")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 80 and text.isprintable() else f"{text[:80]!r}"


def read_pickle(path: Path) -> Any:
    """What a pickle of numpy arrays, numbers, texts, lists, tuples and dictionaries holds; nothing in it is executed.

    Raises:
        BenchError: no readable pickle, or one that asks for anything else; the message names what it asks for.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(_Reader(file, path.stat().st_size), encoding="latin1").load()
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror or error}.") from None
    except _RefusedError as error:
        raise BenchError(f"{path} is refused: {error}.") from None
    except KeyError as error:
        code = error.args[0] if error.args else ""
        raise BenchError(
            f"{path} is refused: it holds an instruction or reference that is not read ({code})."
        ) from None
    except Exception as error:  # whatever the instructions of a damaged or hostile file come to
        raise BenchError(
            f"{path} is no whole pickle ({type(error).__name__}: {error}); downloaded completely?"
        ) from None
