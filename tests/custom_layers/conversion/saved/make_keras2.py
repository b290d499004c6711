"""Makes keras2.h5, tfa.h5, tfa.ckpt and keras2.npz: layers and what they compute.

Made by TensorFlow 2.15.1, its Keras 2.15.0 and TensorFlow Addons 0.23.0:

    python make_keras2.py
"""

import numpy as np

UNITS, FEATURES, BATCH, TIME = 3, 2, 2, 5


def main():
    import keras
    from tensorflow_addons import rnn

    random, both = (
        np.random.RandomState(8),
        {"return_sequences": True, "return_state": True},
    )

    def draw(*shape):
        return random.uniform(-1, 1, shape).astype("float32")

    data = {"x": draw(BATCH, TIME, FEATURES)}
    made = {
        "lstm": keras.layers.LSTM(UNITS, name="lstm", **both),
        "gru": keras.layers.GRU(UNITS, name="gru", **both),
        "gru_cho": keras.layers.GRU(UNITS, reset_after=False, name="gru_cho", **both),
        "two": keras.layers.Bidirectional(keras.layers.LSTM(UNITS, **both), name="two"),
        "peephole": keras.layers.RNN(
            rnn.PeepholeLSTMCell(UNITS), name="peephole", **both
        ),
        "norm": keras.layers.RNN(rnn.LayerNormLSTMCell(UNITS), name="norm", **both),
    }

    def model_of(*names):
        x = keras.Input((None, FEATURES))
        feed, inputs, outputs = [data["x"]], [x], []
        for name in names:
            states = {"gru": "h", "gru_cho": "h", "two": "hcHC"}.get(name, "hc")
            start = [keras.Input((UNITS,)) for _ in states]
            for state in states:
                data[f"{name}_{state}0"] = draw(BATCH, UNITS)
                feed.append(data[f"{name}_{state}0"])
            inputs += start
            outputs += made[name](x, initial_state=start)
            data.update(dict.fromkeys([f"{name}_y", *(f"{name}_{s}" for s in states)]))
        model = keras.Model(inputs, outputs)
        model.set_weights([draw(*weight.shape) for weight in model.get_weights()])
        empty = [key for key, value in data.items() if value is None]
        data.update(zip(empty, model.predict(feed, verbose=0)))  # noqa: B905
        return model

    model = model_of("lstm", "gru", "gru_cho", "two")
    model.compile("adam", "mse")
    model.save("keras2.h5")
    model = model_of("peephole", "norm")
    model.save_weights("tfa.h5")
    model.save_weights("tfa.ckpt")
    np.savez_compressed("keras2.npz", **data)


if __name__ == "__main__":
    main()
