// Runs the native kernel's core on sizes at random, for sanitizers: see native_fuzz.py.
// Results must have the same bits on one thread and on several.
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "lstm.h"

using namespace native_lstm;

namespace {

typedef std::vector<float> Floats;

Floats random_floats(int64_t count) {
  Floats made(count);
  for (float& x : made) x = (rand() % 2000 - 1000) / 1000.0f;
  return made;
}

struct Problem {
  Sizes s;
  bool masked, every_output, every_c;
  Floats z[2], U, b, p, m, h, c, d_outputs, d_all_c, d_state, z_d, below, of_d;
  std::vector<unsigned char> keep;

  Problem() {
    s.steps = rand() % 6, s.early = s.steps ? rand() % (s.steps + 1) : 0;
    s.batch = 1 + rand() % 40, s.units = 1 + rand() % (rand() % 20 ? 70 : 300);
    s.gates = 3 + rand() % 2, s.peepholes = rand() % 2;
    s.linked = s.gates == 4 && rand() % 2;
    const int masks[3] = {0, 1, s.gates};
    s.masks = masks[rand() % 3], masked = rand() % 2, every_output = rand() % 2;
    every_c = rand() % 2;
    const int64_t state = s.batch * s.units, width = s.gates * s.units;
    z[0] = random_floats(s.early * s.batch * width);
    z[1] = random_floats((s.steps - s.early) * s.batch * width);
    U = random_floats(s.units * width), b = random_floats(width);
    p = random_floats(3 * s.units);
    m = random_floats(s.masks * state), d_state = random_floats(state);
    h = c = random_floats((s.steps + 1) * state);
    d_outputs = d_all_c = random_floats(s.steps * state);
    z_d = below = random_floats(s.linked * s.steps * state);
    of_d = random_floats(s.linked * 3 * s.units);
    keep.resize(s.steps * s.batch);
    for (unsigned char& each : keep) each = rand() % 2;
  }

  // In training the gates are written over z, and their gradients over the gates; to
  // separate memory otherwise, as where TensorFlow's tensors are still in use.
  Floats results(const Path& path, int threads, bool in_place) const {
    Floats h = this->h, c = this->c, d_h = d_state, d_c = d_state, d_p(3 * s.units);
    Floats d_b(s.gates * s.units), d_z_d = z_d, d_below = z_d, d_of_d = of_d;
    Floats read[2] = {z[0], z[1]}, gates[2] = {z[0], z[1]}, d_z[2] = {z[0], z[1]};
    Floats read_d = z_d, gate_d = z_d;
    Floats *of_gates = in_place ? read : gates, *of_d_z = in_place ? read : d_z;
    Floats &of_gate_d = in_place ? read_d : gate_d, &of_d_z_d = in_place ? read_d : d_z_d;

    Forward forward = {};
    forward.size = s, forward.U = U.data(), forward.b = b.data();
    forward.h = h.data(), forward.c = c.data();
    Backward backward = {};
    backward.size = s, backward.U = U.data(), backward.c = c.data();
    if (every_output) backward.d_outputs = d_outputs.data();
    if (every_c) backward.d_all_c = d_all_c.data();
    backward.d_h = d_h.data(), backward.d_c = d_c.data();
    backward.d_p = d_p.data(), backward.d_b = d_b.data();
    for (int half = 0; half < 2; ++half) {
      forward.z[half] = read[half].data();
      backward.gates[half] = forward.gates[half] = of_gates[half].data();
      backward.d_z[half] = of_d_z[half].data();
    }
    if (s.peepholes) forward.p = backward.p = p.data();
    if (s.masks) forward.m = backward.m = m.data();
    if (masked) forward.keep = backward.keep = keep.data();
    if (s.linked) {
      forward.z_d = read_d.data(), forward.d = of_gate_d.data();
      forward.below = backward.below = below.data();
      forward.of_d = backward.of_d = of_d.data();
      backward.d = of_gate_d.data(), backward.d_z_d = of_d_z_d.data();
      backward.d_below = d_below.data(), backward.d_of_d = d_of_d.data();
    }
    run_forward(path, forward, threads);
    run_backward(path, backward, threads);
    Floats all;
    for (const Floats* part : {&h, &c, &of_d_z[0], &of_d_z[1], &d_h, &d_c, &d_p, &d_b,
                               &of_d_z_d, &d_below, &d_of_d})
      all.insert(all.end(), part->begin(), part->end());
    return all;
  }
};

}  // namespace

int main() {
  int count = 0;
  for (int round = 0; round < 150; ++round) {
    const Problem problem;
    for (int number : {1, 2, 3}) {
      const Path* path = choose_path(number);
      if (!path) continue;
      const Floats first = problem.results(*path, 1, false);
      for (int threads : {1, 2, 5}) {
        if (problem.results(*path, threads, true) != first) {
          printf("other results on %d threads, path %s\n", threads, path->name);
          return 1;
        }
        ++count;
      }
    }
  }
  printf("%d runs, in place and on several threads, gave the results of one\n", count);
  return 0;
}
