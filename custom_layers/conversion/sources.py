"""Named arrays out of files and mappings, with errors that name the weight."""

import importlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

#: A file, or a mapping from names to arrays.
Source: TypeAlias = str | os.PathLike[str] | Mapping[str, Any]


class Weights:
    """The weights of one layer: those of a source whose names begin with a prefix.

    Args:
        source: A file, or a mapping from names to arrays.
        ending: The end of a name that every such layer has once; or several ends, of
            which it has one.
        prefix: The beginning of its name, if the source has several.
        separator: What stands between the parts of a name.
        fits: Whether there may be such a layer, a function of all arrays and a prefix.
            Others are chosen only where ``prefix`` says so, or there is none that fits.
        dtype: The dtype of the layer's weights, which must be able to hold them.

    Attributes:
        arrays: All arrays of the source, by name.
        config: The configuration of the model, where a file of Keras 2 has one.
        prefix: The beginning of the names of the layer's weights, with its separator.

    Raises:
        ValueError: There is no such layer, or there are several.
        FileNotFoundError: There is no such file.
        ImportError: The package that reads the file is not installed.
    """

    def __init__(
        self, source, ending, prefix=None, separator="/", fits=None, dtype="float64"
    ):
        check_prefix(prefix)
        self.arrays, self.config = _open(source)
        self.prefix = _find(self.arrays, ending, prefix, separator, fits)
        self.dtype, self.taken = dtype, []

    def has(self, name):
        """Return whether there is a weight."""
        return self.prefix + name in self.arrays

    def names(self):
        """Return the names of all weights, without the prefix."""
        start = len(self.prefix)
        return [it[start:] for it in self.arrays if it.startswith(self.prefix)]

    def take(self, name, *shape):
        """Return a weight as an array of floats.

        Args:
            name: Its name, without the prefix.
            *shape: The shape that it must have; None allows any size.

        Raises:
            ValueError: It is missing, has another shape, or holds no floats, or
                numbers beyond the range of the dtype.
        """
        full = self.prefix + name
        if full not in self.arrays:
            raise ValueError(f"{full} is missing; there is: {listing(self.names())}")
        self.taken.append(full)
        return checked(full, self.arrays[full], *shape, dtype=self.dtype)

    def finish(self, reason="the layer has no such weight"):
        """Raise ValueError if a weight is left, other than slots of an optimizer."""
        taken = set(self.taken)
        left = [
            name
            for name in map(self.prefix.__add__, self.names())
            if name not in taken
            and not name.startswith(tuple(f"{it}/" for it in taken))
        ]
        if left:
            raise ValueError(f"{listing(left)} cannot be converted: {reason}")


def checked(name, value, *shape, dtype="float64"):
    """Return a weight as an array of floats; raise ValueError as `Weights.take`."""
    array = as_array(name, value)
    wanted = tuple("any" if size is None else size for size in shape)
    sizes = zip(array.shape, shape, strict=False)
    if array.ndim != len(shape) or any(b not in (None, a) for a, b in sizes):
        wanted = f"({', '.join(map(str, wanted))}{',' * (len(wanted) == 1)})"
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")
    if array.dtype.kind != "f":
        raise ValueError(f"{name} must hold floats, got {array.dtype}")
    check_range(name, array, dtype)
    return array


def check_range(name, array, dtype):
    """Raise ValueError for finite numbers that would become infinite in a dtype."""
    is_bfloat16 = dtype == "bfloat16"
    largest = (2 - 2**-7) * 2.0**127 if is_bfloat16 else np.finfo(dtype).max
    sizes = np.abs(array[np.isfinite(array)])
    if np.any(sizes > largest):
        raise ValueError(
            f"{name} must hold numbers of {dtype}, up to {largest:.4g}, got "
            f"{sizes.max():.4g}: a layer with a wider dtype takes it, as with "
            "dtype='float64'"
        )


def as_array(name, value):
    """Return a value as an array; raise ValueError that names what cannot be one."""
    try:
        return to_numpy(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} must be an array of floats, got a {type(value).__name__} that "
            f"cannot become one: {error}"
        ) from error


def check_prefix(prefix):
    """Raise ValueError unless a prefix is a text or None."""
    if not isinstance(prefix, str | None):
        raise ValueError(f"prefix must be a text or None, got {prefix!r}")


def to_numpy(value):
    """Return an array, or a tensor of any library, as an array; bfloat16 as float32."""
    if hasattr(value, "detach"):  # of PyTorch
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
    array = np.asarray(value)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def listing(names, most=12):
    """Return names in words."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more


def need(package, what):
    """Return a package; raise ImportError that says what it is for."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        message = f"{what} needs the package {package}: pip install {package}"
        raise ImportError(message) from error


def read(path, kind, reader):
    """Return what a reader makes of a file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is broken, or of another kind.
    """
    path = os.fspath(path)
    if not any(os.path.exists(path + ending) for ending in ("", ".index")):
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return reader(path)
    except ImportError:
        raise
    except Exception as error:  # each library has its own
        raise ValueError(f"{path} cannot be read as {kind}: {error}") from error


def _find(arrays, ending, prefix, separator, fits):
    """Return the one prefix, with its separator, of names that have an ending."""
    endings = [ending] if isinstance(ending, str) else ending
    starts = {
        name[: -len(end)] for end in endings for name in arrays if name.endswith(end)
    }
    starts = sorted(it for it in starts if not it or it.endswith(separator))
    if not starts:
        wanted = " or ".join(map(repr, endings))
        raise ValueError(f"no weight {wanted} is there, only: {listing(arrays)}")
    everything = starts
    if fits is not None:
        starts = [it for it in starts if fits(arrays, it)] or starts
    chosen = starts
    if prefix is not None:
        whole = prefix.rstrip(separator) + separator if prefix else ""
        inside = [
            [it for it in those if whole and it.startswith(whole)]
            for those in (starts, everything)
        ]
        chosen = [it for it in everything if it == whole] or inside[0] or inside[1]
    if len(chosen) != 1:
        raise ValueError(
            f"prefix must choose one of {starts}, got {prefix!r}, which "
            f"{'chooses ' + str(chosen) if chosen else 'chooses none'}"
        )
    return chosen[0]


def _open(source):
    """Return the names and arrays of a source, and the configuration of its model."""
    config = None
    if isinstance(source, Mapping):
        arrays = source
    elif isinstance(source, str | os.PathLike):
        ending = pathlib.PurePath(source).suffix
        if ending in (".pt", ".pth", ".bin"):
            raise ValueError(
                f"{os.fspath(source)} is for PyTorch alone to read: give what "
                "torch.load(…, weights_only=True) returns"
            )
        if ending == ".keras":
            raise ValueError(
                f"{os.fspath(source)} is a file of Keras 3, which "
                f"keras.models.load_model reads; allowed are {', '.join(READERS)}, "
                "and the name of a TensorFlow checkpoint, such as model.ckpt-1000"
            )
        arrays, config = read(source, *READERS.get(ending, CHECKPOINT))
    else:
        raise ValueError(
            "source must be a file or a mapping from names to arrays, got "
            f"{type(source).__name__}"
        )
    ends = (":0", "/.ATTRIBUTES/VARIABLE_VALUE")
    named, origins = {}, {}
    for origin, it in arrays.items():
        name = _without(str(origin), ends)
        if name in named:
            raise ValueError(
                f"source must have the weight {name} once, got it as "
                f"{origins[name]!r} and as {origin!r}"
            )
        named[name], origins[name] = it, origin
    return named, config


def _without(name, ends):
    for end in ends:
        name = name.removesuffix(end)
    return name


def _read_h5(path):
    """Return the arrays of a Keras 2 file, and the configuration of a whole model."""
    arrays = {}

    def collect(name, thing):
        if hasattr(thing, "shape"):
            arrays[name] = thing[()]

    with need("h5py", "a .h5 file").File(path, "r") as file:
        file.get("model_weights", file).visititems(collect)
        config = file.attrs.get("model_config")
    return arrays, None if config is None else json.loads(config)


def _read_safetensors(path):
    """Return the arrays of a safetensors file."""
    return need("safetensors.numpy", "a .safetensors file").load_file(path), None


def _read_checkpoint(path):
    """Return the arrays of a TensorFlow checkpoint."""
    tf = need("tensorflow", "a TensorFlow checkpoint")
    reader = tf.train.load_checkpoint(path.removesuffix(".index"))
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names}, None


CHECKPOINT = ("a TensorFlow checkpoint", _read_checkpoint)
READERS = {
    ".h5": ("a HDF5 file", _read_h5),
    ".hdf5": ("a HDF5 file", _read_h5),
    ".safetensors": ("a safetensors file", _read_safetensors),
}
