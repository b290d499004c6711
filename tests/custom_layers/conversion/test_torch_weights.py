"""PyTorch's own LSTM and GRU beside the layers, in both directions."""

import pathlib
import re
import sys

import keras
import numpy as np
import pytest
from cells import assert_close, random_layer
from saved_files import BOTH, assert_same_weights, skip_where_keras_fails

import custom_layers.conversion
from custom_layers import CoupledLSTM, PeepholeLSTM, WeightDropLSTM
from custom_layers.conversion import from_torch, to_torch


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def random_module(torch, kind, rng, **arguments):
    """Return a module with random weights, in float32."""
    module = getattr(torch.nn, kind)(5, 4, batch_first=True, **arguments)
    state = {
        name: torch.from_numpy(rng.uniform(-1, 1, it.shape).astype("float32"))
        for name, it in module.state_dict().items()
    }
    module.load_state_dict(state)
    return module


def assert_same_function(torch, module, stack, rng, directions=1):
    """Assert that a module and a stack compute the same, from random states."""
    skip_where_keras_fails(stack[0])
    x = rng.uniform(-1, 1, (3, 20, 5)).astype("float32")
    states = [
        rng.uniform(-1, 1, (len(stack) * directions, 3, size)).astype("float32")
        for size in (module.proj_size or 4, 4)
    ]
    states = states[: 1 if isinstance(module, torch.nn.GRU) else 2]
    start = tuple(map(torch.from_numpy, states))
    with torch.no_grad():
        wanted, end = module(torch.from_numpy(x), start if len(start) > 1 else start[0])
    end = end if len(start) > 1 else (end,)
    outputs, mine = x, []
    for number, layer in enumerate(stack):
        own = range(number * directions, (number + 1) * directions)
        outputs, *new = layer(
            outputs, initial_state=[state[it] for it in own for state in states]
        )
        mine += new
    to_numpy = keras.ops.convert_to_numpy
    assert_close(to_numpy(outputs), wanted)
    for number, array in enumerate(mine):
        assert_close(
            to_numpy(array), end[number % len(end)][number // len(end)].numpy()
        )


MODULES = [
    {},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True},
    {"bias": False},
]
PROJECTED = [
    {"proj_size": 3},
    {"num_layers": 2, "bidirectional": True, "proj_size": 3},
]


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # no oneDNN
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        *(("LSTM", arguments) for arguments in MODULES + PROJECTED),
        *(("GRU", arguments) for arguments in MODULES),
    ],
)
def test_layers_compute_what_pytorch_does(kind, arguments, rng, torch):
    module = random_module(torch, kind, rng, **arguments)
    stack = from_torch(module.state_dict(), **BOTH)
    assert len(stack) == module.num_layers
    directions = 1 + module.bidirectional
    assert_same_function(torch, module, stack, rng, directions)
    back = {name: torch.from_numpy(it) for name, it in to_torch(stack).items()}
    again = random_module(torch, kind, rng, **arguments)
    again.load_state_dict(back)
    assert_same_function(torch, again, stack, rng, directions)
    if kind == "GRU" or not module.bias:
        for name, tensor in module.state_dict().items():
            assert torch.equal(back[name], tensor), name


@pytest.mark.parametrize(
    ("layer_class", "arguments"),
    [
        (keras.layers.LSTM, {}),
        (keras.layers.LSTM, {"use_bias": False}),
        (PeepholeLSTM, {"peepholes": ()}),
        (WeightDropLSTM, {}),
        (CoupledLSTM, {}),
        (keras.layers.GRU, {}),
        (keras.layers.GRU, {"use_bias": False}),
    ],
)
def test_pytorch_computes_what_a_layer_does(layer_class, arguments, rng, torch):
    layer = random_layer(layer_class, 4, 5, rng, **arguments)
    kind = "GRU" if layer_class is keras.layers.GRU else "LSTM"
    bias = arguments.get("use_bias", True)
    module = getattr(torch.nn, kind)(5, 4, batch_first=True, bias=bias)
    weights = to_torch(layer, "encoder.lstm")
    module.load_state_dict(
        {name.split(".")[2]: torch.from_numpy(it) for name, it in weights.items()}
    )
    assert_same_function(torch, module, [layer], rng)


@pytest.mark.parametrize("layer_class", [keras.layers.LSTM, keras.layers.GRU])
@pytest.mark.parametrize("use_bias", [True, False])
def test_there_and_back_is_exact(layer_class, use_bias, rng):
    stack = [
        random_layer(layer_class, 4, features, rng, use_bias=use_bias)
        for features in (5, 4)
    ]
    again = from_torch(to_torch(stack, "a.b"), **BOTH)
    for layer, wanted in zip(again, stack, strict=True):
        assert_same_weights(layer, wanted)


def test_two_directions_in_float64(rng):
    layer = random_two(rng, dtype="float64")
    (again,) = from_torch(to_torch(layer), dtype="float64", return_sequences=True)
    assert again.dtype_policy == layer.dtype_policy
    x = rng.uniform(-1, 1, (3, 20, 5))
    outputs, wanted = (keras.ops.convert_to_numpy(it(x)) for it in (again, layer))
    assert outputs.dtype == "float64"
    np.testing.assert_array_equal(outputs, wanted)


def random_two(rng, **arguments):
    """Return a layer of two directions with random weights."""
    lstm = keras.layers.LSTM(4, return_sequences=True, **arguments)
    layer = keras.layers.Bidirectional(lstm, dtype=lstm.dtype_policy)
    layer.build((None, None, 5))
    layer.set_weights([rng.uniform(-1, 1, it.shape) for it in layer.get_weights()])
    return layer


def test_two_directions_there_and_back_are_exact(rng):
    layer = keras.layers.Bidirectional(keras.layers.LSTM(4))
    layer.build((None, None, 5))
    layer.set_weights([rng.uniform(-1, 1, it.shape) for it in layer.get_weights()])
    (again,) = from_torch(to_torch(layer))
    assert_same_weights(again, layer)


def test_stack_is_a_model(rng, x):
    """All layers but the last one return sequences."""
    stack = [random_layer(keras.layers.GRU, 4, features, rng) for features in (5, 4)]
    model = keras.Sequential([keras.Input((None, 5)), *from_torch(to_torch(stack))])
    wanted = stack[1](stack[0](x)[0])[1]
    assert_close(model.predict(x, verbose=0), keras.ops.convert_to_numpy(wanted))


def test_files_that_pytorch_writes(rng, torch, tmp_path):
    """A ``.pt`` file of a whole model, with bfloat16, and a ``.safetensors`` file."""
    model = torch.nn.ModuleDict(
        {"encoder": random_module(torch, "LSTM", rng), "head": torch.nn.Linear(4, 2)}
    )
    state = {name: it.bfloat16() for name, it in model.state_dict().items()}
    torch.save(state, tmp_path / "model.pt")
    (layer,) = from_torch(torch.load(tmp_path / "model.pt", weights_only=True))
    wanted = state["encoder.weight_ih_l0"].float().numpy().T
    np.testing.assert_array_equal(layer.get_weights()[0], wanted)
    with pytest.raises(ValueError, match="model.pt is for PyTorch alone.*torch.load"):
        from_torch(tmp_path / "model.pt")


def test_safetensors_file(rng, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    layer = random_layer(keras.layers.GRU, 4, 5, rng)
    path = tmp_path / "model.safetensors"
    safetensors.save_file(to_torch(layer, "encoder.gru"), path)
    assert_same_weights(from_torch(path, "encoder", **BOTH)[0], layer)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="model.safetensors cannot be read as a safet"):
        from_torch(path)


def test_missing_package_is_named(monkeypatch, tmp_path):
    path = tmp_path / "model.safetensors"
    path.touch()
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match="needs the package safetensors"):
        from_torch(path)


@pytest.fixture
def state(rng):
    """The state dict of two layers in two directions, in which the weights differ."""
    sizes = {0: 5, 1: 8}
    return {
        f"rnn.{kind}_l{layer}{end}": rng.uniform(-1, 1, shape)
        for layer, features in sizes.items()
        for end in ("", "_reverse")
        for kind, shape in {
            "weight_ih": (16, features),
            "weight_hh": (16, 4),
            "bias_ih": (16,),
            "bias_hh": (16,),
        }.items()
    }


def test_a_planted_fault_is_named(state):
    from_torch(state)
    for name, array in state.items():
        rest = {key: state[key] for key in state if key != name}
        missing = f"{name} is missing|no weight 'weight_hh_l0' is there"
        with pytest.raises(ValueError, match=missing):
            from_torch(rest)
        if name != "rnn.weight_ih_l0":  # it says how many features there are
            with pytest.raises(ValueError, match=f"{name} must have shape .*, got"):
                from_torch(state | {name: array[..., :-1]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rnn.weight_hr_l0": np.ones((2, 4))}, r"weight_hr_l0 .* \(4, any\)"),
        ({"rnn.more": np.ones(2)}, "^rnn.more cannot be converted"),
        ({"rnn.bias_hh_l0": np.ones(16, "int8")}, "rnn.bias_hh_l0 must hold floats"),
        ({"a.weight_hh_l0": np.ones(2)}, r"prefix must choose one of \['a.', 'rnn.'\]"),
    ],
)
def test_what_is_too_much_is_named(change, message, state):
    with pytest.raises(ValueError, match=message):
        from_torch(state | change)


@pytest.mark.parametrize(
    ("source", "prefix", "message"),
    [
        ({"weight_hh_l0": np.ones((4, 4))}, None, r"\(4·units, units\) of an LSTM or"),
        ({"state_dict": {}}, None, "no weight 'weight_hh_l0' .*only: state_dict"),
        ({}, None, "only: nothing"),
        ({"a.weight_hh_l0": np.ones((4, 4))}, "b", "got 'b', which chooses none"),
        (5, None, "source must be a file or a mapping"),
    ],
)
def test_wrong_sources_are_refused(source, prefix, message):
    with pytest.raises(ValueError, match=message):
        from_torch(source, prefix)


@pytest.mark.parametrize(
    ("kind", "options", "given", "message"),
    [
        ("GRU", {}, {"reset_after": False}, "^reset_after must be True, .*, got False"),
        ("GRU", {"use_bias": False}, {"reset_after": False}, "PyTorch has no other"),
        ("LSTM", {}, {"units": 3}, "^units must be 4, or left out, got 3: the weights"),
        ("LSTM", {}, {"use_bias": False}, "^use_bias must be True, .*, got False: the"),
        ("GRU", {"use_bias": False}, {"use_bias": True}, "^use_bias must be False, or"),
        ("LSTM", {}, {"projection": 3}, r"projection_kernel \(4, 3\) is missing"),
        ("P", {"projection": 2}, {"projection": 3}, r"\(4, 3\), got \(4, 2\)"),
        (
            "P",
            {"projection": 2},
            {"projection": None},
            r"kernel \(4, 2\) would be lost",
        ),
    ],
)
def test_arguments_against_the_weights_are_refused(kind, options, given, message, rng):
    layer_class = {"P": PeepholeLSTM}.get(kind) or getattr(keras.layers, kind)
    options = options | ({"peepholes": ()} if kind == "P" else {})
    state = to_torch(random_layer(layer_class, 4, 5, rng, **options))
    from_torch(state)
    with pytest.raises(ValueError, match=message):
        from_torch(state, **given)


def test_arguments_that_the_weights_tell_too_are_taken(state):
    assert len(from_torch(state, units=4, use_bias=True)) == 2


def test_each_layer_of_a_stack_has_a_name_of_its_own(state, rng):
    lstms = [random_layer(keras.layers.LSTM, 4, size, rng) for size in (5, 4)]
    for weights in (state, to_torch(lstms)):
        stack = from_torch(weights, name="enc")
        assert [layer.name for layer in stack] == ["enc_0", "enc_1"]
        keras.Sequential([keras.Input((None, 5)), *stack])  # which refuses a name twice
    assert from_torch(to_torch(lstms[:1]), name="enc")[0].name == "enc"
    assert len({layer.name for layer in from_torch(state)}) == 2


def test_a_prefix_is_a_text(state, rng):
    for prefix in (5, b"rnn", ["rnn"]):
        message = re.escape(f"prefix must be a text or None, got {prefix!r}")
        with pytest.raises(ValueError, match=message):
            from_torch(state, prefix)
        lstm = random_layer(keras.layers.LSTM, 4, 5, rng)
        with pytest.raises(ValueError, match=message):
            to_torch(lstm, prefix)


def test_what_is_no_array_is_named(state):
    for name in ("rnn.weight_hh_l0", "rnn.bias_ih_l1"):
        with pytest.raises(
            ValueError, match=f"^{name} must be an array of floats, got"
        ):
            from_torch(state | {name: [[1.0], [1.0, 2.0]]})


def test_what_pytorch_lacks_is_refused(rng):
    peephole = random_layer(PeepholeLSTM, 4, 5, rng)
    cases = [
        (peephole, "peephole_i .* is not zero: PyTorch"),
        (random_layer(keras.layers.GRU, 4, 5, rng, reset_after=False), "reset_after"),
        (random_layer(keras.layers.LSTM, 4, 5, rng, activation="relu"), "'relu'"),
        (random_layer(keras.layers.LSTM, 4, 5, rng, go_backwards=True), "go_backwards"),
        (keras.layers.SimpleRNN(4), "is a SimpleRNN"),
        (keras.layers.LSTM(4), "has no weights yet"),
        (keras.layers.Bidirectional(keras.layers.LSTM(4), "sum"), "merge_mode 'sum'"),
        ([], "no weight 'weight_hh_l0'"),
    ]
    for layer, message in cases:
        with pytest.raises(ValueError, match=message):
            to_torch(layer)
    lstm = random_layer(keras.layers.LSTM, 4, 5, rng)
    with pytest.raises(
        ValueError, match=r"weight_ih_l1 must have shape \(16, 4\), got"
    ):
        to_torch([lstm, random_layer(keras.layers.LSTM, 4, 5, rng)])
    with pytest.raises(
        ValueError, match=r"weight_ih_l1 must have shape \(16, 4\), got"
    ):
        to_torch([lstm, random_layer(keras.layers.GRU, 4, 4, rng)])
    with pytest.raises(ValueError, match="bias_ih_l1 is missing"):
        to_torch([lstm, random_layer(keras.layers.LSTM, 4, 4, rng, use_bias=False)])


def test_library_imports_no_other_library():
    """It asks for what reads a file when it reads one; for PyTorch never."""
    for path in pathlib.Path(custom_layers.conversion.__file__).parent.glob("*.py"):
        text = path.read_text("utf-8")
        imported = re.findall(r"^\s*(?:from|import) (\w+)", text, re.MULTILINE)
        assert not {"torch", "onnx", "h5py", "safetensors", "tensorflow"} & {*imported}
        needed = re.findall(r"\bneed\(\"(\w+)", text)
        assert {*needed} <= {"onnx", "h5py", "safetensors", "tensorflow"}
