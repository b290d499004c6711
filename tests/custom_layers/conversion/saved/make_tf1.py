"""Makes tf1.ckpt and tf1.npz: cells of TensorFlow 1 and what they compute.

Made by TensorFlow 1.15.5 on Python 3.7, with protobuf 3.20:

    python make_tf1.py
"""

import numpy as np

UNITS, FEATURES, BATCH, TIME = 3, 2, 2, 5


def main():
    import tensorflow as tf
    from tensorflow.contrib import rnn

    random = np.random.RandomState(7)

    def draw(*shape):
        return random.uniform(-1, 1, shape).astype("float32")

    cells = {
        "peephole": tf.nn.rnn_cell.LSTMCell(UNITS, use_peepholes=True),
        "plain": tf.nn.rnn_cell.LSTMCell(UNITS, forget_bias=0.0, cell_clip=0.25),
        "basic": tf.nn.rnn_cell.BasicLSTMCell(UNITS),
        "block": rnn.LSTMBlockCell(UNITS, use_peephole=True, forget_bias=0.5),
        "coupled": rnn.CoupledInputForgetGateLSTMCell(UNITS, use_peepholes=True),
        "projected": tf.nn.rnn_cell.LSTMCell(UNITS, num_proj=2),
        "coupled_norm": rnn.CoupledInputForgetGateLSTMCell(UNITS, layer_norm=True),
        "norm": rnn.LayerNormBasicLSTMCell(UNITS, forget_bias=0.5),
        "no_norm": rnn.LayerNormBasicLSTMCell(UNITS, layer_norm=False),
    }
    data, results = {"x": draw(BATCH, TIME, FEATURES)}, {}
    for name, cell in cells.items():
        c, h = (draw(BATCH, size) for size in cell.state_size)
        data[name + "_h0"], data[name + "_c0"] = h, c
        start = tf.nn.rnn_cell.LSTMStateTuple(c, h)
        with tf.variable_scope(name):
            y, end = tf.nn.dynamic_rnn(
                cell, tf.constant(data["x"]), initial_state=start
            )
        results[name + "_y"], results[name + "_h"], results[name + "_c"] = (
            y,
            end.h,
            end.c,
        )
    weights = tf.trainable_variables()
    of_peephole = [it for it in weights if it.name.startswith("peephole/")]
    loss = tf.reduce_sum(results["peephole_y"])
    tf.train.AdamOptimizer().minimize(loss, var_list=of_peephole)  # for its slots
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run([it.assign(draw(*it.shape.as_list())) for it in weights])
        data.update(session.run(results))
        saver = tf.train.Saver()
        saver.save(session, "tf1.ckpt", write_meta_graph=False, write_state=False)
    np.savez_compressed("tf1.npz", **data)


if __name__ == "__main__":
    main()
