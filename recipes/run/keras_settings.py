"""Checks the user's settings of Keras before Keras meets them with a traceback."""

import json
import os

from recipes.run.command_line import UserError
from recipes.run.files import Damaged, read
from recipes.run.values import Allowed

#: What ``keras.json`` may hold.
SETTINGS = {
    "backend": Allowed(str),
    "floatx": Allowed(str, choices=("float16", "float32", "float64")),
    "epsilon": Allowed(
        float, least=0, most=1, words="a number from 0 to 1 with a point, as 1e-07"
    ),
    "image_data_format": Allowed(str, choices=("channels_last", "channels_first")),
}
#: Variables with which Keras silently ends training early.
ENDING_EARLY = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")


def check_keras_settings():
    """Raise UserError unless the programs can run with the user's settings of Keras."""
    for name in ENDING_EARLY:
        if name in os.environ:
            raise UserError(f"{name} must not be set: it would end training early")
    path, settings = settings_path(), {}
    if os.path.exists(path):
        try:
            settings = read(path, parse_settings)
        except Damaged as error:
            raise UserError(
                f"{error}: mend it, or delete it, and Keras writes it anew"
            ) from error
    check_backend(os.environ.get("KERAS_BACKEND") or settings.get("backend"))


def check_backend(backend):
    """Raise UserError unless Keras's backend is TensorFlow, which reads the data."""
    if backend not in ("tensorflow", None):
        raise UserError(
            f"the backend of Keras must be tensorflow, got {backend}: "
            "set KERAS_BACKEND=tensorflow"
        )


def settings_path():
    """Return the path of ``keras.json``, as Keras finds it."""
    home = os.path.expanduser("~")
    if not os.access(home, os.W_OK):
        home = "/tmp"
    folder = os.environ.get("KERAS_HOME", os.path.join(home, ".keras"))
    return os.path.expanduser(os.path.join(folder, "keras.json"))


def parse_settings(content):
    """Return what ``keras.json`` holds; raise an error with which Keras cannot start.

    Nothing, if it is no JSON: Keras ignores it then. Perhaps another process is just
    writing it.
    """
    try:
        settings = json.loads(content)
    except ValueError:
        return {}
    Allowed(dict).check("it", settings)
    for name in SETTINGS.keys() & settings.keys():
        SETTINGS[name].check(name, settings[name])
    return settings
