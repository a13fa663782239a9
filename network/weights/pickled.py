"""A reader of pickles that builds plain values only, and never imports or calls what a pickle names.

A pickle is a program for a machine with a stack. This machine knows the instructions that occur in torch's files.
Classes and functions are only names to it. For a few names it builds the data they stand for (a tensor, an ordered
dict, a numpy number), a few more are kept as names, and any other name ends the reading with `Refused`.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_PICKLE = 8 << 20  # bytes; the pickle of a checkpoint with its optimiser has some hundred thousand
_MAX_STEPS = 2_000_000  # instructions; a tensor takes thirty
_MAX_INTEGER = 32  # bytes
_SHOWN = 80  # characters of a name in a message
_MAX_KEY = 8  # elements of a tuple that is a key
_MAX_COPIED = 4 << 20  # elements and bytes that all calls together copy: a call may name one large list again and again


class Refused(Exception):
    """An error about a pickle that holds more than weights and settings; its text is the refused name."""


class Damaged(Exception):
    """An error about a damaged file; its text says what is wrong."""


def shown(name: Any) -> str:
    """Returns a name from a file for a message: short, and without control characters."""
    text = str(name)[:_SHOWN]
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return text if len(str(name)) <= _SHOWN else f"{text}…"


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names."""

    path: str


@dataclass(frozen=True)
class StandIn:
    """A placeholder for an object of a class outside the known ones, which keeps the name of the class only."""

    path: str


@dataclass(frozen=True)
class OddTensor:
    """A placeholder for a tensor that no network here has, such as a sparse or quantised one, without its values."""

    kind: str


@dataclass
class _NumberType:
    """A numpy dtype of plain numbers."""

    dtype: np.dtype


# Objects of these classes become a `StandIn`, whatever they hold. In Python 3.13 the module of paths has another name.
FOREIGN_CLASSES = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor",
    "pytorch_lightning.callbacks.swa.StochasticWeightAveraging",
    "argparse.Namespace",
    "torch.device",
    "torch.serialization._get_layout",
    *(
        f"{module}.{kind}"
        for module in ("pathlib", "pathlib._local")
        for kind in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    ),
)
FOREIGN_RECORDS = ("easydict.EasyDict", "pytorch_lightning.utilities.parsing.AttributeDict")  # dicts with attributes
NUMPY_NAMES = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")
# Names that are kept as names: types of storages and numbers, quantisation schemes, classes of tensors.
_BARE = {
    "torch.Tensor", "torch.nn.parameter.Parameter", "torch.storage.UntypedStorage",
    *(f"torch.{kind}Storage" for kind in (
        "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "ComplexFloat",
        "ComplexDouble", "QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")),
    *(f"torch.{kind}" for kind in (
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
        "uint64", "bool", "complex32", "complex64", "complex128", "qint8", "quint8", "qint32", "float8_e4m3fn",
        "float8_e5m2", "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
        "per_channel_affine_float_qparams")),
}  # fmt: skip
_ODD_TENSORS = {
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_meta_tensor_no_storage": "without values (meta)",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_tensor_v3": "of an unusual type",
    "torch._utils._rebuild_wrapper_subclass": "of an unusual class",
    "torch._utils._rebuild_device_tensor_from_numpy": "of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "of another device",
}


@dataclass(frozen=True)
class Tensors:
    """The maker of the tensors of a pickle.

    Attributes:
        kind: class of the storages and of the tensors that the two functions make.
        storage: returns the (n,) values of a storage, given its persistent id.
        view: makes a tensor from (storage, offset, size, stride).
    """

    kind: type
    storage: Callable[[Any], Any]
    view: Callable[..., Any]


def read_pickle(data: bytes, start: int, tensors: Tensors | None = None) -> tuple[Any, int]:
    """Reads one pickle.

    Args:
        data: bytes that hold the pickle.
        start: index of its first byte.
        tensors: what makes the tensors; None: a pickle with tensors is an error.

    Returns:
        The value, made of dicts, lists, tuples, numbers, texts, tensors and the records of this module, and the index
        behind the last byte of the pickle.

    Raises:
        Refused: the pickle names another class or function.
        Exception: the pickle is damaged; this can be any exception.
    """
    machine = _Machine(data, start, tensors)
    return machine.run(), machine.position


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    return {_key(key): value for key, value in _sequence(pairs)}


def _counter(counts: Any = None) -> dict[Any, Any]:
    if type(counts) not in (dict, type(None)):
        raise ValueError("counts that are none")
    return dict(counts or {})


def _sequence(items: Any = ()) -> list[Any]:
    if type(items) not in (list, tuple):
        raise ValueError("a sequence that is none")
    return list(items)


def _key(key: Any) -> Any:
    """Returns a key of a dict after a check: hashing a deep tuple would exhaust the C stack."""
    flat = key if type(key) is tuple else (key,)
    if len(flat) > _MAX_KEY or not all(type(part) in (str, bytes, int, float, bool, type(None), Name) for part in flat):
        raise ValueError(f"a key of type {type(key).__name__}")
    return key


def _encode(text: str, encoding: str) -> bytes:
    """Encodes a text as bytes: old protocols store bytes as a text."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("an unusual encoding")
    return text.encode("latin-1")


def _number_type(code: Any, *_: Any) -> _NumberType:
    code = code.decode("ascii") if isinstance(code, bytes) else code
    if code not in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1"):
        raise ValueError("a numpy number of an unusual type")
    return _NumberType(np.dtype(code))


def _scalar(kind: _NumberType, data: bytes) -> Any:
    if len(data) != kind.dtype.itemsize:
        raise ValueError("a numpy number of another length than its type has")
    return np.frombuffer(data, kind.dtype)[0].item()


def _first(*arguments: Any) -> Any:
    return arguments[0]


class _Machine:
    """The machine that executes a pickle; the docstring of the module describes it."""

    def __init__(self, data: bytes, start: int, tensors: Tensors | None) -> None:
        self.data, self.position = data, start
        self.tensors = tensors
        self.stateful = (dict, StandIn, OddTensor) if tensors is None else (dict, StandIn, OddTensor, tensors.kind)
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0
        self.builders: Mapping[str, Callable[..., Any]] = {
            "collections.OrderedDict": _ordered_dict,
            "collections.Counter": _counter,
            "set": _sequence,
            "frozenset": _sequence,
            "bytes": lambda: b"",
            "_codecs.encode": _encode,
            "torch.Size": lambda items: tuple(_sequence(items)),
            "numpy.dtype": _number_type,
            **dict.fromkeys(NUMPY_NAMES[:2], _scalar),
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_parameter": _first,
            "torch._utils._rebuild_parameter_with_state": _first,
            "torch._tensor._rebuild_from_type_v2": lambda function, kind, arguments, state: self._call(
                function, arguments
            ),
        }

    def run(self) -> Any:
        for _ in range(_MAX_STEPS):
            code = self._take(1)
            if code == pickle.STOP:
                return self.stack.pop()
            if code not in _INSTRUCTIONS:
                raise ValueError(f"an instruction {code!r}")
            _INSTRUCTIONS[code](self)
        raise ValueError("too many instructions")

    # ---- reading

    def _take(self, count: int) -> bytes:
        if count > len(self.data) - self.position:
            raise ValueError("ends early")
        self.position += count
        return self.data[self.position - count : self.position]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        end = self.data.index(b"\n", self.position)
        return self._take(end + 1 - self.position)[:-1].decode()

    def _integer(self, length: int) -> int:
        if length > _MAX_INTEGER:
            raise ValueError("a number that is too long")
        return pickle.decode_long(self._take(length))

    # ---- the stack

    def _from_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _tuple(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) < count:
            raise ValueError("the stack is too short")
        self.stack[-count:] = [tuple(items)]

    def _append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("appends to what is no list")
        self.stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        pairs = list(zip(items[::2], items[1::2], strict=True))
        if type(target) is dict:
            target.update({_key(key): value for key, value in pairs})
        elif not isinstance(target, StandIn):
            raise ValueError("sets entries of what is no dict")

    # ---- names

    def _name(self, module: str, name: str) -> None:
        path = f"{module}.{name}".removeprefix("__builtin__.").removeprefix("builtins.")
        known = path in self.builders or path in _BARE or path in _ODD_TENSORS
        if not known and path not in FOREIGN_CLASSES and path not in FOREIGN_RECORDS:
            raise Refused(path)
        self.stack.append(Name(path))

    def _call(self, name: Any, arguments: Any) -> Any:
        if not isinstance(name, Name) or type(arguments) is not tuple:
            raise ValueError("calls what is no name")
        if name.path in FOREIGN_RECORDS:
            return {}
        if name.path in FOREIGN_CLASSES:
            return StandIn(name.path)
        if name.path in _ODD_TENSORS:
            return OddTensor(_ODD_TENSORS[name.path])
        if name.path == "torch.nn.parameter.Parameter" and arguments:
            return arguments[0]
        if name.path not in self.builders:
            raise ValueError(f"calls {name.path}")
        self.copied += sum(len(value) for value in arguments if isinstance(value, (list, tuple, dict, str, bytes)))
        if self.copied > _MAX_COPIED:
            raise ValueError("too much is copied")
        return self.builders[name.path](*arguments)

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def _build(self) -> None:
        """Applies the state of an object: only a numpy dtype uses it, for its byte order."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _NumberType):
            if len(state) < 2 or state[1] not in ("<", ">", "|", "="):
                raise ValueError("an unusual byte order")
            target.dtype = target.dtype.newbyteorder(state[1])
        elif not isinstance(target, self.stateful):
            raise ValueError("a state of what has none")

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
        if isinstance(storage, OddTensor):
            return storage
        if self.tensors is None or not isinstance(storage, self.tensors.kind):
            raise ValueError("a tensor without values")
        return self.tensors.view(storage, offset, size, stride)

    def _persistent(self) -> None:
        if self.tensors is None:
            raise ValueError("a tensor where there can be none")
        self.stack.append(self.tensors.storage(self.stack.pop()))

    def _remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]


def _push(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(make(machine))


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.PROTO: lambda m: m._take(1),
    pickle.FRAME: lambda m: m._take(8),
    pickle.MARK: lambda m: m.marks.append(len(m.stack)),
    pickle.NONE: _push(lambda m: None),
    pickle.NEWTRUE: _push(lambda m: True),
    pickle.NEWFALSE: _push(lambda m: False),
    pickle.BININT: _push(lambda m: m._number("<i")),
    pickle.BININT1: _push(lambda m: m._number("<B")),
    pickle.BININT2: _push(lambda m: m._number("<H")),
    pickle.LONG1: _push(lambda m: m._integer(m._number("<B"))),
    pickle.BINFLOAT: _push(lambda m: m._number(">d")),
    pickle.BINUNICODE: _push(lambda m: m._take(m._number("<I")).decode()),
    pickle.SHORT_BINUNICODE: _push(lambda m: m._take(m._number("<B")).decode()),
    pickle.SHORT_BINSTRING: _push(lambda m: m._take(m._number("<B")).decode("ascii")),  # from Python 2
    pickle.BINBYTES: _push(lambda m: m._take(m._number("<I"))),
    pickle.SHORT_BINBYTES: _push(lambda m: m._take(m._number("<B"))),
    pickle.EMPTY_DICT: _push(lambda m: {}),
    pickle.EMPTY_LIST: _push(lambda m: []),
    pickle.EMPTY_SET: _push(lambda m: []),
    pickle.EMPTY_TUPLE: _push(lambda m: ()),
    pickle.TUPLE: _push(lambda m: tuple(m._from_mark())),
    pickle.TUPLE1: lambda m: m._tuple(1),
    pickle.TUPLE2: lambda m: m._tuple(2),
    pickle.TUPLE3: lambda m: m._tuple(3),
    pickle.APPEND: lambda m: m._append([m.stack.pop()]),
    pickle.APPENDS: lambda m: m._append(m._from_mark()),
    pickle.ADDITEMS: lambda m: m._append(m._from_mark()),
    pickle.SETITEM: lambda m: m._set([m.stack.pop(-2), m.stack.pop()]),
    pickle.SETITEMS: lambda m: m._set(m._from_mark()),
    pickle.GLOBAL: lambda m: m._name(m._line(), m._line()),
    pickle.STACK_GLOBAL: lambda m: m._name(str(m.stack.pop(-2)), str(m.stack.pop())),
    pickle.REDUCE: _Machine._reduce,
    pickle.NEWOBJ: _Machine._reduce,
    pickle.BUILD: _Machine._build,
    pickle.BINPERSID: _Machine._persistent,
    pickle.BINPUT: lambda m: m._remember(m._number("<B")),
    pickle.LONG_BINPUT: lambda m: m._remember(m._number("<I")),
    pickle.MEMOIZE: lambda m: m._remember(len(m.memo)),
    pickle.BINGET: _push(lambda m: m.memo[m._number("<B")]),
    pickle.LONG_BINGET: _push(lambda m: m.memo[m._number("<I")]),
}
