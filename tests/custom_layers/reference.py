"""The cells as plain NumPy loops, written from the papers alone. Imports no Keras.

Each loop takes inputs ``x (batch, time, features)``, initial states, each ``(batch,
units)``, and the weights by name, in Keras's layout; it returns the output of every
step ``(batch, time, units)`` and the final states."""

import numpy as np


def sigmoid(z):
    """Logistic function."""
    return 1 / (1 + np.exp(-z))


def by_gate(weights, names):
    """Cut the fused matrices into one W, U and b for each gate."""
    count = len(names)
    W = dict(zip(names, np.split(weights["kernel"], count, axis=1), strict=True))
    U = dict(
        zip(names, np.split(weights["recurrent_kernel"], count, axis=1), strict=True)
    )
    b = dict(zip(names, np.split(weights["bias"], count), strict=True))
    return W, U, b


def peephole(x, states, weights):
    """Gers & Schmidhuber 2000; a peephole that has no weights is absent."""
    h, c = states
    W, U, b = by_gate(weights, "ifco")
    p_i, p_f, p_o = (weights.get(f"peephole_{gate}", 0) for gate in "ifo")
    outputs = []
    for t in range(x.shape[1]):
        x_t = x[:, t]
        input_gate = sigmoid(x_t @ W["i"] + h @ U["i"] + c * p_i + b["i"])
        forget_gate = sigmoid(x_t @ W["f"] + h @ U["f"] + c * p_f + b["f"])
        candidate = np.tanh(x_t @ W["c"] + h @ U["c"] + b["c"])
        new_c = forget_gate * c + input_gate * candidate
        output_gate = sigmoid(x_t @ W["o"] + h @ U["o"] + new_c * p_o + b["o"])
        h, c = output_gate * np.tanh(new_c), new_c
        outputs.append(h)
    return np.stack(outputs, axis=1), [h, c]


def coupled(x, states, weights):
    """Greff et al. 2015, CIFG, with the forget gate's weights."""
    h, c = states
    W, U, b = by_gate(weights, "fco")
    p_f, p_o = (weights.get(f"peephole_{gate}", 0) for gate in "fo")
    outputs = []
    for t in range(x.shape[1]):
        x_t = x[:, t]
        forget_gate = sigmoid(x_t @ W["f"] + h @ U["f"] + c * p_f + b["f"])
        input_gate = 1 - forget_gate
        candidate = np.tanh(x_t @ W["c"] + h @ U["c"] + b["c"])
        new_c = forget_gate * c + input_gate * candidate
        output_gate = sigmoid(x_t @ W["o"] + h @ U["o"] + new_c * p_o + b["o"])
        h, c = output_gate * np.tanh(new_c), new_c
        outputs.append(h)
    return np.stack(outputs, axis=1), [h, c]


def lstm(x, states, weights):
    """Gers et al. 2000 ("Learning to Forget"): no peepholes."""
    h, c = states
    W, U, b = by_gate(weights, "ifco")
    outputs = []
    for t in range(x.shape[1]):
        z = {gate: x[:, t] @ W[gate] + h @ U[gate] + b[gate] for gate in "ifco"}
        c = sigmoid(z["f"]) * c + sigmoid(z["i"]) * np.tanh(z["c"])
        h = sigmoid(z["o"]) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=1), [h, c]


def gru(x, states, weights):
    """Cho et al. 2014, first version (and cuDNN): the reset gate multiplies U h after
    the product."""
    (h,) = states
    count = 3
    W_z, W_r, W_h = np.split(weights["kernel"], count, axis=1)
    U_z, U_r, U_h = np.split(weights["recurrent_kernel"], count, axis=1)
    (b_z, b_r, b_h), (b_uz, b_ur, b_uh) = (
        np.split(row, count) for row in weights["bias"]
    )
    outputs = []
    for t in range(x.shape[1]):
        x_t = x[:, t]
        update = sigmoid(x_t @ W_z + b_z + h @ U_z + b_uz)
        reset = sigmoid(x_t @ W_r + b_r + h @ U_r + b_ur)
        candidate = np.tanh(x_t @ W_h + b_h + reset * (h @ U_h + b_uh))
        h = update * h + (1 - update) * candidate
        outputs.append(h)
    return np.stack(outputs, axis=1), [h]


def gru_cho(x, states, weights):
    """Cho et al. 2014, third version: the reset gate multiplies h itself."""
    (h,) = states
    count = 3
    W_z, W_r, W_h = np.split(weights["kernel"], count, axis=1)
    U_z, U_r, U_h = np.split(weights["recurrent_kernel"], count, axis=1)
    b_z, b_r, b_h = np.split(weights["bias"], count)
    outputs = []
    for t in range(x.shape[1]):
        x_t = x[:, t]
        update = sigmoid(x_t @ W_z + h @ U_z + b_z)
        reset = sigmoid(x_t @ W_r + h @ U_r + b_r)
        h = update * h + (1 - update) * np.tanh(x_t @ W_h + (reset * h) @ U_h + b_h)
        outputs.append(h)
    return np.stack(outputs, axis=1), [h]


def simple_rnn(x, states, weights):
    """Elman 1990: no gates."""
    (h,) = states
    outputs = []
    for t in range(x.shape[1]):
        h = np.tanh(
            x[:, t] @ weights["kernel"]
            + h @ weights["recurrent_kernel"]
            + weights["bias"]
        )
        outputs.append(h)
    return np.stack(outputs, axis=1), [h]


def depth_gated(x, states, weights, depth=2):
    """Yao et al. 2015: a peephole LSTM, and above it levels that let in the c of the
    level below.

    The states are given and returned from the top level down: h, c, h, c, …
    """
    h_of = list(states[-2::-2])  # from the bottom up
    c_of = list(states[::-2])
    outputs = []
    for t in range(x.shape[1]):
        below = x[:, t]
        for level in range(depth):
            name = f"level_{level + 1}/"
            own = {k[len(name) :]: v for k, v in weights.items() if k.startswith(name)}
            units = len(own["recurrent_kernel"])
            W_d, b_d = own["kernel"][:, 4 * units :], own["bias"][4 * units :]
            own["kernel"] = own["kernel"][:, : 4 * units]
            own["bias"] = own["bias"][: 4 * units]
            W, U, b = by_gate(own, "ifco")
            h, c = h_of[level], c_of[level]
            z = {gate: below @ W[gate] + h @ U[gate] + b[gate] for gate in "ifco"}
            new_c = sigmoid(z["f"] + own["peephole_f"] * c) * c
            new_c = new_c + sigmoid(z["i"] + own["peephole_i"] * c) * np.tanh(z["c"])
            if level > 0:
                c_below = c_of[level - 1]  # of this step already
                linear = below @ W_d + b_d
                gate = sigmoid(linear + own["q"] * c + own["r"] * c_below)
                new_c = new_c + gate * c_below
            h = sigmoid(z["o"] + own["peephole_o"] * new_c) * np.tanh(new_c)
            h_of[level], c_of[level] = h, new_c
            below = h
        outputs.append(h)
    final = [
        state
        for level in reversed(range(depth))
        for state in (h_of[level], c_of[level])
    ]
    return np.stack(outputs, axis=1), final


def clockwork(x, states, weights, periods=(1, 2, 4, 8)):
    """Koutník et al. 2014: module k ticks when T_k divides t, and hears itself and
    slower modules."""
    h, clock = states
    size = h.shape[1] // len(periods)
    own = [slice(k * size, (k + 1) * size) for k in range(len(periods))]
    base, digits = 256, clock.shape[1] // len(periods)
    t = [0] * len(periods)  # t mod T_k
    for k in range(len(periods)):
        for place in range(digits):
            t[k] += int(clock[0, k * digits + place]) * base**place
    outputs = []
    for step in range(x.shape[1]):
        new = h.copy()
        for k, period in enumerate(periods):
            if (t[k] + step) % period == 0:
                z = x[:, step] @ weights["kernel"][:, own[k]] + weights["bias"][own[k]]
                for j in range(k, len(periods)):
                    rows = slice((j - k) * size, (j - k + 1) * size)
                    z = z + h[:, own[j]] @ weights[f"recurrent_kernel_{k + 1}"][rows]
                new[:, own[k]] = np.tanh(z)
        h = new
        outputs.append(h)
    clock = clock.copy()
    for k, period in enumerate(periods):
        final = (t[k] + x.shape[1]) % period
        for place in range(digits):
            clock[:, k * digits + place] = final // base**place % base
    return np.stack(outputs, axis=1), [h, clock]


REFERENCES = {
    "lstm": lstm,
    "peephole": peephole,
    "coupled": coupled,
    "gru": gru,
    "gru-cho": gru_cho,
    "depth-gated": depth_gated,
    "clockwork": clockwork,
    "weight-drop": lstm,
    "simple-rnn": simple_rnn,
}
