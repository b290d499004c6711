"""Wrong arguments raise ValueError that names the argument, the value and what is
allowed."""

import keras
import numpy as np
import pytest
from cells import OURS

from custom_layers import (
    ClockworkRNN,
    ClockworkRNNCell,
    CoupledLSTM,
    CoupledLSTMCell,
    DepthGatedLSTM,
    DepthGatedLSTMCell,
    PeepholeLSTM,
    PeepholeLSTMCell,
)
from custom_layers.engine.prepared import Sequence

CLASSES = [*OURS.values(), *(layer.cell_class for layer in OURS.values())]


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("units", [0, -3, 2.5, "8", None, True])
def test_units(make, units):
    with pytest.raises(
        ValueError, match=rf"units must be a positive integer, got {units!r}"
    ):
        make(units)


@pytest.mark.parametrize("make", OURS.values())
def test_units_may_be_of_numpy(make):
    assert make(np.int64(8))(np.ones((2, 3, 4), "float32")).shape == (2, 8)


@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning")
@pytest.mark.parametrize("make", OURS.values())
def test_arguments_of_any_layer(make):
    layer = make(4, input_shape=(5, 3), autocast=False)
    assert keras.Sequential([layer]).built
    assert not layer.autocast


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout", "weight_dropout"])
@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), "0.5", None])
def test_dropout_rates(make, name, rate):
    message = rf"{name} must be a number in \[0, 1\), got {rate!r}"
    with pytest.raises(ValueError, match=message):
        make(8, **{name: rate})


@pytest.mark.parametrize("make", [PeepholeLSTM, PeepholeLSTMCell])
@pytest.mark.parametrize(
    "peepholes", [("c",), ("i", "x"), "ifo", ("i", "i"), None, True, (["i"],)]
)
def test_peepholes(make, peepholes):
    with pytest.raises(
        ValueError, match="peepholes must be .* 'i', 'f', 'o', got"
    ) as raised:
        make(8, peepholes=peepholes)
    assert repr(peepholes) in str(raised.value)


@pytest.mark.parametrize("make", [CoupledLSTM, CoupledLSTMCell])
def test_coupled_has_no_input_gate(make):
    with pytest.raises(ValueError, match=r"'f', 'o', got \('i',\)"):
        make(8, peepholes=("i",))


@pytest.mark.parametrize("make", [ClockworkRNN, ClockworkRNNCell])
@pytest.mark.parametrize(
    "periods",
    [
        (),
        (2, 1),
        (1, 1),
        (0, 1),
        (-1, 2),
        (1, 2.5),
        3,
        "12",
        None,
        (True, 2),
        (1, 2**31),
    ],
)
def test_periods(make, periods):
    with pytest.raises(
        ValueError, match="periods must be positive integers in rising"
    ) as raised:
        make(8, periods)
    assert repr(periods) in str(raised.value)


@pytest.mark.parametrize("make", [ClockworkRNN, ClockworkRNNCell])
def test_units_and_periods(make):
    with pytest.raises(
        ValueError, match="units must be a multiple of .* periods, 3, got 8"
    ):
        make(8, periods=(1, 2, 3))


@pytest.mark.parametrize("make", [DepthGatedLSTM, DepthGatedLSTMCell])
@pytest.mark.parametrize("depth", [0, -1, 1.5, None, True, "2"])
def test_depth(make, depth):
    with pytest.raises(
        ValueError, match=f"depth must be a positive integer, got {depth!r}"
    ):
        make(8, depth)


def test_peepholes_in_any_order_and_container():
    for peepholes in (("o", "i"), ["i", "o"], {"o", "i"}):
        assert PeepholeLSTMCell(8, peepholes=peepholes).peepholes == ("i", "o")


@pytest.mark.parametrize("make", CLASSES)
def test_unknown_argument(make):
    with pytest.raises((TypeError, ValueError), match="speling"):
        make(8, speling=1)


@pytest.mark.parametrize("make", OURS.values())
def test_input_of_wrong_rank(make):
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        make(8)(np.ones((2, 5), "float32"))


def test_unit_forget_bias():
    for cell in (PeepholeLSTMCell(2), CoupledLSTMCell(2)):
        cell.build((None, 3))
        forget = [gate == "f" for gate in cell.gates for _ in range(2)]
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(cell.bias.value), forget
        )
        plain = type(cell)(2, unit_forget_bias=False)
        plain.build((None, 3))
        assert not np.any(keras.ops.convert_to_numpy(plain.bias.value))


def test_peephole_initializer_regularizer_constraint():
    layer = PeepholeLSTM(
        2,
        peephole_initializer="ones",
        peephole_regularizer=keras.regularizers.L2(0.5),
        peephole_constraint="non_neg",
    )
    layer.build((None, None, 3))
    peepholes = [
        weight for weight in layer.weights if weight.name.startswith("peephole")
    ]
    assert len(peepholes) == 3
    assert all(
        isinstance(weight.constraint, keras.constraints.NonNeg) for weight in peepholes
    )
    assert float(keras.ops.convert_to_numpy(sum(layer.losses))) == pytest.approx(
        3 * 2 * 0.5
    )


def test_tied_dropout_uses_one_mask_for_all_gates():
    """With every gate's weights equal, equal masks make equal pre-activations."""
    for tied in (True, False):
        cell = CoupledLSTMCell(
            16, dropout=0.5, recurrent_dropout=0.5, seed=0, tied_dropout=tied
        )
        cell.build((None, 8))
        cell.set_weights([np.ones(weight.shape) for weight in cell.get_weights()])
        x, h = keras.ops.ones((4, 8)), keras.ops.ones((4, 16))
        masks = cell.masks(x, h, Sequence())
        f, c, _ = (
            keras.ops.matmul(x * each.x_mask, each.W)
            + each.matmul(h * each.h_mask, each.U)
            for each in [*cell.prepare(masks).products] * (3 if tied else 1)
        )
        f, c = keras.ops.convert_to_numpy(f), keras.ops.convert_to_numpy(c)
        assert np.array_equal(f, c) is tied


def test_random_peepholes_differ_from_gate_to_gate():
    cell = PeepholeLSTMCell(4, peephole_initializer="random_normal")
    cell.build((None, 3))
    i, f, o = (
        weight.numpy() for weight in cell.weights if weight.name.startswith("peephole")
    )
    assert np.all(i != f)
    assert np.all(f != o)


@pytest.mark.parametrize("make", OURS.values())
def test_a_layer_shows_its_cell_s_arguments(make):
    """As Keras's LSTM does."""
    layer = make(4, dropout=0.25, recurrent_dropout=0.5, use_bias=False, seed=3)
    shown = layer.units, layer.dropout, layer.recurrent_dropout, layer.use_bias
    assert shown == (4, 0.25, 0.5, False)
    assert isinstance(layer.kernel_initializer, keras.initializers.GlorotUniform)
    assert layer.activation is keras.activations.tanh
    layer.cell.dropout = 0.125
    assert layer.dropout == 0.125
    with pytest.raises(AttributeError):
        layer.dropout = 0.75
    with pytest.raises(AttributeError, match="has no attribute|object has no"):
        getattr(layer, "speling")  # noqa: B009


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("implementation", [1, 2])
def test_implementation_is_taken_as_by_keras(make, implementation):
    assert make(8, implementation=implementation).implementation == implementation


@pytest.mark.parametrize("make", CLASSES)
def test_wrong_implementation(make):
    with pytest.raises(ValueError, match="implementation must be 1 or 2, got 3"):
        make(8, implementation=3)


@pytest.mark.parametrize("make", [PeepholeLSTM, PeepholeLSTMCell, CoupledLSTM])
def test_positional_arguments_are_those_of_keras_lstm(make):
    arguments = (4, "relu", "tanh", False, "he_normal", "identity", "ones", False)
    layer, theirs = make(*arguments), keras.layers.LSTM(*arguments)
    for name in ("units", "activation", "recurrent_activation", "use_bias"):
        assert getattr(layer, name) == getattr(theirs, name)
    for name in ("kernel", "recurrent", "bias"):
        ours = getattr(layer, f"{name}_initializer")
        assert type(ours) is type(getattr(theirs, f"{name}_initializer"))
    assert layer.unit_forget_bias is theirs.unit_forget_bias is False


def test_equations_must_be_a_pure_function():
    with pytest.raises(TypeError, match="MyCell.equations must be a staticmethod"):

        class MyCell(PeepholeLSTMCell):
            def equations(self, z, p, states, σ, φ):
                return {}
