"""Trains every layer on one device and on several; a program of its own.

It must be one: the number of devices is set before the backend starts. All layers are
in one model, each with an output and a loss of its own, since starting and compiling
takes longer than training. It prints the losses of each step as JSON: way → layer →
losses.
"""

import json
import sys
import zlib

import keras
import numpy as np

from custom_layers import LAYERS

BATCH, STEPS, TIME, FEATURES = 8, 6, 5, 3
UNITS = 8  # the columns of every kernel can be split in two
PLANTED = ("simple-rnn",)  # the layer that is trained with a mistake


def make_data():
    """Return sequences, padded with zeros on the right, and targets."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(BATCH * STEPS, TIME, FEATURES))
    kept = rng.integers(1, TIME + 1, (BATCH * STEPS, 1))
    x[np.arange(TIME) >= kept] = 0
    return x.astype("float32"), rng.normal(size=(BATCH * STEPS, 1)).astype("float32")


def make_model(names, change=None):
    """Return a model with an output for each layer, and weights that differ by layer.

    Args:
        names: Names of the layers.
        change: A layer that all outputs pass, or None.
    """
    keras.utils.set_random_seed(3)  # the same dropped weights in every model
    sequences = keras.Input((TIME, FEATURES))
    masked = keras.layers.Masking()(sequences)
    outputs = {}
    for name in names:
        h = LAYERS[name](UNITS, name=f"{name}_layer")(masked)
        output = keras.layers.Dense(1, name=name)(h)
        outputs[name] = output if change is None else change(output)
    model = keras.Model(sequences, outputs)
    for layer in model.layers:
        rng = np.random.default_rng(zlib.crc32(layer.name.split("_")[0].encode()))
        layer.set_weights(
            [rng.uniform(-1, 1, weight.shape) for weight in layer.get_weights()]
        )
    # XLA would take longer to compile than TensorFlow takes to train; JAX needs it.
    jit = keras.backend.backend() == "jax"
    losses = dict.fromkeys(names, "mse")
    model.compile(keras.optimizers.Adam(0.05), losses, jit_compile=jit)
    return model


class Losses(keras.callbacks.Callback):
    """Keeps what ``fit`` shows after each step: the mean loss so far."""

    def __init__(self, names):
        super().__init__()
        self.names, self.kept = names, []

    def on_train_batch_end(self, batch, logs=None):
        only = len(self.names) == 1
        values = [logs["loss" if only else f"{name}_loss"] for name in self.names]
        self.kept.append([float(value) for value in values])


def train(model, x, y, batch=BATCH):
    """Train a model in the order of the data; return the losses of each layer."""
    names = list(model.output)
    losses = Losses(names)
    targets = dict.fromkeys(names, y)
    model.fit(
        x, targets, batch_size=batch, shuffle=False, verbose=0, callbacks=[losses]
    )
    return dict(zip(names, np.transpose(losses.kept).tolist(), strict=True))


def tensorflow():
    """One device, two mirrored ones, and these with a mistake."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [device] * 2)

    class ShareOfReplica(keras.layers.Layer):
        """Divides what the first replica computes by 1, the second's by 2."""

        def call(self, x):
            context = tf.distribute.get_replica_context()
            if context is None:  # while the model is built
                return x
            return x / (1 + tf.cast(context.replica_id_in_sync_group, x.dtype))

    # A second strategy would get the keys of the first, and its sums.
    strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
    x, y = make_data()
    ways = {"one": train(make_model(LAYERS), x, y)}
    with strategy.scope():
        ways["mirrored"] = train(make_model(LAYERS), x, y)
        ways["planted"] = train(make_model(PLANTED, ShareOfReplica()), x, y)
    return ways


def shares(model):
    """Return which share of each recurrent kernel and kernel a device holds."""
    held = {}
    for variable in model.trainable_variables:
        if "_layer/" in variable.path and "kernel" in variable.path:
            shard = variable.value.addressable_shards[0].data
            held[variable.path] = shard.size / variable.value.size
    return held


def jax():
    """One device, four with the same weights, and two and four that split kernels."""
    distribution = keras.distribution
    devices = distribution.list_devices()
    assert len(devices) == 4, devices
    x, y = make_data()
    ways = {"one": train(make_model(LAYERS), x, y)}
    distribution.set_distribution(distribution.DataParallel(devices=devices))
    model = make_model(LAYERS)
    assert set(shares(model).values()) == {1}
    ways["data-4"] = train(model, x, y)
    for copies in (1, 2):
        mesh = distribution.DeviceMesh(
            (copies, 2), ("batch", "model"), devices[: 2 * copies]
        )
        layout = distribution.LayoutMap(mesh)
        layout[r".*_layer/.*kernel(_\d)?"] = (None, "model")
        distribution.set_distribution(
            distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
        )
        model = make_model(LAYERS)
        held = shares(model)
        assert len(held) > 2 * len(LAYERS) and set(held.values()) == {0.5}, held
        ways[f"model-{2 * copies}"] = train(model, x, y)
        assert shares(model) == held
    return ways


def processes(address, number):
    """Two processes with a device each; then each gets the data of the first."""
    distribution = keras.distribution
    distribution.initialize(address, 2, int(number))
    devices = distribution.list_devices()
    assert len(devices) == 2, devices
    distribution.set_distribution(
        distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    )
    by_process = [
        array.reshape(STEPS, 2, BATCH // 2, *array.shape[1:]) for array in make_data()
    ]

    def part(number):
        return [np.concatenate(array[:, number]) for array in by_process]

    ways = {"processes": train(make_model(LAYERS), *part(int(number)), BATCH // 2)}
    ways["planted"] = train(make_model(PLANTED), *part(0), BATCH // 2)
    return ways


if __name__ == "__main__":  # pytest looks for doctests in this file, too
    function, *arguments = sys.argv[1:]
    print(json.dumps(globals()[function](*arguments)))
