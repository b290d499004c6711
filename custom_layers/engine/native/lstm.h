// The recurrence of an LSTM in float32, forward and backward, for a training step.
//
// For sequences of B rows and n units, with z = x W of all steps given,
//
//     i = σ(z_i + b_i + U_i (m_i ⊙ h⁻) + p_i ⊙ c⁻)      f likewise; coupled: i = 1 − f
//     g = tanh(z_g + b_g + U_g (m_g ⊙ h⁻))
//     c = f ⊙ c⁻ + i ⊙ g
//     o = σ(z_o + b_o + U_o (m_o ⊙ h⁻) + p_o ⊙ c)
//     h = o ⊙ tanh(c)
//
// where m is one mask for all gates, one for each, or none; and a step that is not kept
// leaves h and c as they were. A level of a depth-gated stack adds d ⊙ c_below to c, with
// the c of the level below and
//
//     d = σ(z_d + b_d + q ⊙ c⁻ + r ⊙ c_below)
//
// All arrays are row-major, the steps come first: h is (steps + 1, B, n), with the initial
// state in its first row. What the products with W make, or need, comes as two arrays, of
// the early and of the late steps, so that TensorFlow can compute those products side by
// side. Gates stand side by side in the order i, f, g, o; coupled, f, g, o. What belongs
// to d stands apart.
//
// No row depends on another one, and its sums have one order. So results do not depend
// on how rows are shared between threads. The gradients of p and b are sums over rows:
// they are taken over fixed tiles of ROWS rows, and then over the tiles, in order.
#ifndef CUSTOM_LAYERS_LSTM_H
#define CUSTOM_LAYERS_LSTM_H

#include <stdint.h>

namespace native_lstm {

constexpr int ROWS = 8;  // of a tile

struct Sizes {
  int64_t steps, early;  // all steps, and those in the first array of two
  int64_t batch, units;
  int gates;       // 4, or 3 with coupled gates
  int masks;       // of h: 0, 1, or one for each gate
  bool peepholes;  // whether any is there
  bool linked;     // whether there is a gate d, with 4 gates
};

struct Forward {
  Sizes size;
  const float* z[2];         // (steps, B, gates·n), in two
  const float* U;            // (n, gates·n)
  const float* b;            // (gates·n)
  const float* p;            // (3, n): p_i, p_f, p_o, zeros where there is none
  const float* m;            // (masks, B, n)
  const unsigned char* keep; // (steps, B), or null
  float *h, *c;              // (steps + 1, B, n), of which the first row is given
  float* gates[2];           // like z: i, f, g, o; it may be z itself
  // Of a linked level:
  const float *z_d, *below;  // (steps, B, n): z_d, and the c of the level below
  const float* of_d;         // (3, n): q, r, b_d
  float* d;                  // (steps, B, n): the gate; it may be z_d itself
};

struct Backward {
  Sizes size;
  const float *U, *p, *m;    // as above
  const unsigned char* keep;
  const float* gates[2];     // as the forward pass left them
  const float* c;
  const float* d_outputs;    // gradient of h of all steps (steps, B, n), or null
  const float* d_all_c;      // that of c, for the level above, or null; not used where a
                             // step is not kept: it is not kept above, either
  float* d_z[2];             // like z; it may be `gates` itself
  float *d_h, *d_c;          // (B, n): those of the last states; become the initial ones'
  float *d_p, *d_b;          // (3, n), (gates·n)
  const float *d, *below, *of_d;       // of a linked level, as above
  float *d_z_d, *d_below, *d_of_d;     // the first may be d itself
};

// Sums over the rows of a tile: the gradients of p, then those of b, then of q, r and b_d.
static inline int64_t sums_size(const Sizes& s) {
  return (3 + s.gates + (s.linked ? 3 : 0)) * s.units;
}

// One implementation for one kind of processor. Rows from `begin` to `end` are a
// thread's own; `begin` is a multiple of ROWS.
struct Path {
  const char* name;
  int64_t (*packed_size)(const Sizes&);  // floats, of either direction
  void (*pack_forward)(const Sizes&, const float* U, float* packed);
  void (*pack_backward)(const Sizes&, const float* U, float* packed);
  // `dropped`: room for 2·masks·(end − begin)·n floats.
  void (*forward)(const Forward&, const float* packed, int64_t begin, int64_t end,
                  float* dropped);
  // `sums`: for each of all tiles those of `sums_size`, zeros at first.
  void (*backward)(const Backward&, const float* packed, int64_t begin, int64_t end,
                   float* sums);
};

// By number: 1 portable, 2 AVX2 with FMA, 3 AVX-512; 0 the best that the processor has.
// Null where the processor, or this build, lacks it.
const Path* choose_path(int number);

// Both use up to `threads` threads, this one among them; they may throw bad_alloc.
void run_forward(const Path&, const Forward&, int threads);
void run_backward(const Path&, const Backward&, int threads);

}  // namespace native_lstm

#endif
