"""Guards the speed by counted work in the traced graph, not by seconds (TensorFlow
only)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers import CoupledLSTM, PeepholeLSTM, PeepholeLSTMCell

BATCH = 8  # below the size at which batches are split: one loop


def training_step(layer, batch=BATCH):
    """Return a compiled training step of a small model."""
    inputs = keras.Input((6, 5))
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))

    @tf.function(jit_compile=False, reduce_retracing=False)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True)))
        return tape.gradient(loss, model.trainable_variables)

    return step, tf.constant(np.ones((batch, 6, 5), "float32"))


def operations_in_loops(layer, batch=BATCH):
    """Return how often each operation stands in the bodies of the loops of a training
    step.

    "x Yᵀ" are the matrix products with the second factor transposed.
    """
    step, x = training_step(layer, batch)
    graph = step.get_concrete_function(x).graph.as_graph_def()
    loops = [node for node in graph.node if node.op in ("While", "StatelessWhile")]
    bodies = {node.attr["body"].func.name for node in loops}
    counts = {}
    for function in graph.library.function:
        if function.signature.name in bodies:
            for node in function.node_def:
                counts[node.op] = counts.get(node.op, 0) + 1
                if node.op == "MatMul" and node.attr["transpose_b"].b:
                    counts["x Yᵀ"] = counts.get("x Yᵀ", 0) + 1
    return counts, len(loops)


def work(counts):
    """Return the number of operations that compute, not those that keep the loop or
    read from arrays."""
    return sum(
        number
        for op, number in counts.items()
        if op not in ("Const", "Identity", "NoOp", "Placeholder", "x Yᵀ")
        and not op.startswith("TensorList")
    )


def test_peepholes_cost_elementwise_products_alone():
    plain, _ = operations_in_loops(PeepholeLSTM(4, peepholes=()))
    all_three, _ = operations_in_loops(PeepholeLSTM(4))
    assert all_three["MatMul"] == plain["MatMul"]
    assert (
        all_three["Mul"] - plain["Mul"] == 12
    )  # three forward, three again and six backward
    assert not {"Sum", "Reshape", "BroadcastTo"} & set(all_three)


def test_one_product_a_step_and_direction():
    lstm, loops = operations_in_loops(keras.layers.LSTM(4))
    assert loops == 2  # forward and backward
    assert lstm["MatMul"] == 6  # with W and U, and the gradients of x, W, h and U
    for layer in (PeepholeLSTM(4), CoupledLSTM(4)):
        ours, loops = operations_in_loops(layer)
        assert loops == 2
        assert ours["MatMul"] == 2
        assert "Transpose" not in ours
        # Kept each step are z, h and c; read are x W + b, and the three again; written
        # is z's gradient.
        assert ours["TensorListSetItem"] == 4
        assert ours["TensorListGetItem"] == 4


def test_no_more_work_a_step_than_keras_lstm():
    lstm, _ = operations_in_loops(keras.layers.LSTM(4))
    for layer in (
        PeepholeLSTM(4, peepholes=()),
        CoupledLSTM(4),
        keras.layers.RNN(PeepholeLSTMCell(4, peepholes=())),
    ):
        ours, _ = operations_in_loops(layer)
        assert work(ours) <= work(lstm)


def test_peepholes_in_keras_rnn_cost_eighteen_operations():
    plain, _ = operations_in_loops(keras.layers.RNN(PeepholeLSTMCell(4, peepholes=())))
    all_three, _ = operations_in_loops(keras.layers.RNN(PeepholeLSTMCell(4)))
    # A product and a sum each forward; backward two products, and a sum for c and one
    # for the peephole.
    assert work(all_three) - work(plain) <= 18
    assert not {"Sum", "Reshape", "BroadcastTo"} & set(all_three)


def test_a_cell_in_keras_rnn_multiplies_with_no_transposed_u():
    assert (
        operations_in_loops(keras.layers.LSTM(4))[0]["x Yᵀ"] == 2
    )  # W and U, for the gradients of x and h
    plain, _ = operations_in_loops(keras.layers.RNN(PeepholeLSTMCell(4)))
    assert plain["x Yᵀ"] == 1
    assert "Transpose" not in plain
    by_gate, _ = operations_in_loops(
        keras.layers.RNN(PeepholeLSTMCell(4, dropout=0.2, recurrent_dropout=0.2))
    )
    assert by_gate["x Yᵀ"] == 4
    assert "Transpose" not in by_gate


@pytest.mark.parametrize("layer_class", [PeepholeLSTM, CoupledLSTM])
def test_dropout_by_gate_is_one_product_for_each_gate_and_moves_no_weights(layer_class):
    counts, _ = operations_in_loops(layer_class(4, dropout=0.2, recurrent_dropout=0.2))
    gates = len(layer_class(4).cell.gates)
    assert counts["MatMul"] == 2 * gates  # forward and backward
    assert not {
        "BatchMatMulV2",
        "Transpose",
        "Split",
        "ConcatV2",
        "Pack",
        "Unpack",
    } & set(counts)
    lstm, _ = operations_in_loops(
        keras.layers.LSTM(4, dropout=0.2, recurrent_dropout=0.2)
    )
    assert work(counts) < 0.75 * work(lstm)


def test_a_large_batch_is_two_loops_side_by_side():
    assert operations_in_loops(PeepholeLSTM(64), batch=64)[1] == 4
    assert operations_in_loops(PeepholeLSTM(64), batch=31)[1] == 2
    assert operations_in_loops(PeepholeLSTM(63), batch=64)[1] == 2
