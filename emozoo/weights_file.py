"""Safetensors files of strangers: the header is checked against the size of the file before a tensor is made."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from emozoo import files
from emozoo.errors import WeightsError

if TYPE_CHECKING:  # a header is read without torch
    from torch import Tensor

MOST_BYTES = 16 << 30  # of a file; the largest network that can be built here has a tenth of it
MOST_HEADER = 16 << 20
MOST_TENSORS = 100_000
# Bytes of a number by its type in the header. The other types of the format are in no network of this zoo.
BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".tar")
_PICKLED = re.compile(rb"PK|\x80[\x02-\x05]")  # of which no start is the length of a header that is read
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Entry(NamedTuple):
    """One tensor of a header: its type, its shape, and where its bytes lie behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read(path: Path) -> bytes:
    """The content of a safetensors file whose header fits it.

    Raises WeightsError, one line, for a missing file, a pickle under whatever name, and a header that is damaged or
    does not fit the file. Nothing larger than the header is read before.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix.lower() in PICKLES:
        raise WeightsError(
            f"{path}: pickled checkpoints can run code and are never opened; convert it to model.safetensors "
            "(safetensors)"
        )
    try:
        with path.open("rb") as file:
            head = _head(path, file)
            return head + file.read()
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error


def _head(path: Path, file: BinaryIO) -> bytes:
    """The checked header, with the eight bytes of its length."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if length > MOST_HEADER and _PICKLED.match(start):
        raise WeightsError(f"{path}: is a pickled checkpoint under another name; only safetensors files are opened")
    if len(start) < 8 or length > size - 8:
        raise _unfit(path, f"it has {size:,} bytes, too few for its header: cut off, or another format")
    if length > MOST_HEADER or size > MOST_BYTES:
        raise _unfit(path, f"a header of {length:,} bytes in a file of {size:,} is more than any network needs")
    header = file.read(length)
    check(path, header, size - 8 - length)
    return start + header


def check(path: Path, header: bytes, size: int) -> dict[str, Entry]:
    """The tensors that a header describes, which must fill ``size`` bytes without gap or overlap.

    Raises WeightsError that names the tensor.
    """
    try:
        found = files.parse_json(header)
    except ValueError as error:
        raise _unfit(path, f"its header is no valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise _unfit(path, "its header is no table of tensors")
    about = found.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(v, str) for v in about.values()):
        raise _unfit(path, "the metadata in its header are not text")
    if len(found) > MOST_TENSORS:
        raise _unfit(path, f"{len(found):,} tensors are more than any network has")
    entries = {name: _entry(path, name, value) for name, value in found.items()}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin != end:
            raise _unfit(path, f"the bytes of '{name}' {'overlap' if entry.begin < end else 'lie apart from'} others")
        end = entry.end
    if end != size:
        raise _unfit(
            path,
            f"its tensors need {end:,} bytes and it holds {size:,}: cut off, or bytes of no tensor",
        )
    return entries


def _entry(path: Path, name: str, value: Any) -> Entry:
    if not 0 < len(name) <= 500 or _UNPRINTABLE.search(name) or not _is_text(name):
        raise _unfit(path, f"{name[:60]!a} is no name of a tensor")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _unfit(path, f"'{name}' needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise _unfit(path, f"'{name}' has the type {str(dtype)[:20]!r}; known are {', '.join(BYTES)}")
    if not _counts(shape) or len(shape) > 16 or not _counts(offsets) or len(offsets) != 2:
        raise _unfit(path, f"the shape or offsets of '{name}' are not whole numbers")
    begin, end = offsets
    if end - begin != math.prod(shape) * BYTES[dtype]:
        shown = " x ".join(map(str, shape))[:80] or "one number"
        raise _unfit(path, f"'{name}' ({dtype}, {shown}) does not fit the {end - begin:,} bytes that it has")
    return Entry(dtype, tuple(shape), begin, end)


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 48 for v in values)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unfit(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path}: not a safetensors file that can be used: {why}; fetch or convert it again")


def tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    """The tensors in the content of a file that :func:`read` checked; 16-bit floats are widened to float32.

    Raises WeightsError that names the first tensor with a number that is not finite.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state = load(data)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise _unfit(path, str(error)) from error
    check_finite(path, state)
    return {k: v.float() if v.dtype in (torch.float16, torch.bfloat16) else v for k, v in state.items()}


def check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raises WeightsError that names the first tensor with a number that is not finite."""
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            bad = value.numel() - int(value.isfinite().sum())
            raise WeightsError(
                f"{path}: '{name}' holds {bad} of {value.numel()} numbers that are NaN or infinite: the training that "
                "made it diverged, or it is damaged"
            )
