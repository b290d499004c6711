// The steps of lstm.h for one kind of processor. The compiler reads this file once for
// each: LSTM_PATH names it, and LSTM_LANES is how many floats its vectors have.
//
// It uses no inline function of a library: the linker might keep the copy that was
// compiled here, for another processor.
#include "lstm.h"

#if defined(__SSE__)
#include <immintrin.h>
#endif

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

namespace native_lstm {
namespace {

constexpr int LANES = LSTM_LANES;
typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));

// Rows of z that are summed at once: as many as there are registers for.
constexpr int rows_at_once(int columns) { return LANES == 16 || columns == 1 ? 8 : 4; }
constexpr int64_t K_AT_ONCE = 256;

inline V splat(float x) { return x - V{}; }

#if LSTM_LANES == 8
inline I first(int64_t count) { return I{0, 1, 2, 3, 4, 5, 6, 7} < int32_t(count); }
#endif

// The first `count` floats, zeros after them.
inline V load(const float* from, int64_t count = LANES) {
  V v = {};
  if (count >= LANES)
    __builtin_memcpy(&v, from, sizeof v);
  else
#if LSTM_LANES == 16
    v = (V)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), from);
#elif LSTM_LANES == 8
    v = (V)_mm256_maskload_ps(from, (__m256i)first(count));
#else
    for (int64_t k = 0; k < count; ++k) v[k] = from[k];
#endif
  return v;
}

inline void store(float* to, V v, int64_t count = LANES) {
  if (count >= LANES)
    __builtin_memcpy(to, &v, sizeof v);
  else
#if LSTM_LANES == 16
    _mm512_mask_storeu_ps(to, __mmask16((1u << count) - 1), (__m512)v);
#elif LSTM_LANES == 8
    _mm256_maskstore_ps(to, (__m256i)first(count), (__m256)v);
#else
    for (int64_t k = 0; k < count; ++k) to[k] = v[k];
#endif
}

inline void add(float* to, V v, int64_t count) { store(to, load(to, count) + v, count); }

// Have floats read into the cache: a vector of them lies in one of its lines or in two.
inline void prefetch(const float* from, int64_t count) {
  __builtin_prefetch(from, 1);
  __builtin_prefetch(from + count - 1, 1);
}

inline V between(V low, V x, V high) {  // NaN stays NaN
  x = x < low ? low : x;
  return x > high ? high : x;
}

// e^x = 2^k e^r with |r| ≤ ln 2 / 2, and e^r = 1 + r + r² q(r), q a minimax polynomial:
// relative error 3e-9 before rounding. x is cut to ±87, where e^x is still normal.
inline V exponential(V x) {
  x = between(splat(-87.0f), x, splat(87.0f));
  const float round = 12582912.0f;  // 1.5·2²³: adding it leaves whole numbers
  V shifted = x * 1.44269504f + round;
  V k = shifted - round;
  V r = x - k * 0.693359375f;  // ln 2 in two parts
  r = r + k * 2.12194440e-4f;
  V q = r * 0.001381461275741458f + 0.008368710055947304f;
  q = q * r + 0.04166838899254799f;
  q = q * r + 0.1666652113199234f;
  q = q * r + 0.4999999403953552f;
  V e = q * (r * r) + r + 1.0f;
  I bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;  // the lowest bits of `shifted` are k
  V power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return e * power;
}

inline V sigmoid(V x) { return 1.0f / (1.0f + exponential(-x)); }

// tanh x = x P(x²) / Q(x²), minimax in the relative error on |x| ≤ 9.02, where tanh is 1
// in float32: 2e-8 before rounding, 3.6e-7 after it.
inline V tanh(V x) {
  x = between(splat(-9.02f), x, splat(9.02f));
  V y = x * x;
  V p = y * 1.3319041869408466e-08f + 2.0583458535838872e-05f;
  p = p * y + 0.0034940331242978573f;
  p = p * y + 0.13379716873168945f;
  p = p * y + 1.0f;
  V q = y * 7.762006930533971e-07f + 0.00032830904820002615f;
  q = q * y + 0.025871068239212036f;
  q = q * y + 0.4671303331851959f;
  q = q * y + 1.0f;
  return between(splat(-1.0f), x * p / q, splat(1.0f));
}

// sum[r] += a[r] B for some rows of length K and B (K, COLUMNS·LANES).
template <int COLUMNS>
inline void multiply_few(const float* const* a, int64_t K, const float* B,
                         V (*sum)[COLUMNS]) {
  constexpr int ROWS_AT_ONCE = rows_at_once(COLUMNS);
  const float* row[ROWS_AT_ONCE];
  V part[ROWS_AT_ONCE][COLUMNS];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS_AT_ONCE; ++r) {
    row[r] = a[r];
#pragma GCC unroll 4
    for (int v = 0; v < COLUMNS; ++v) part[r][v] = V{};
  }
  for (int64_t k = 0; k < K; ++k) {
    V b[COLUMNS];
#pragma GCC unroll 4
    for (int v = 0; v < COLUMNS; ++v) b[v] = load(B + v * LANES);
    B += COLUMNS * LANES;
#pragma GCC unroll 8
    for (int r = 0; r < ROWS_AT_ONCE; ++r) {
      V x = splat(row[r][k]);
#pragma GCC unroll 4
      for (int v = 0; v < COLUMNS; ++v) part[r][v] += x * b[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS_AT_ONCE; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < COLUMNS; ++v) sum[r][v] += part[r][v];
}

// The same for a tile. Long sums are taken in parts, which rounds less.
template <int COLUMNS>
inline void multiply(const float* const* a, int64_t K, const float* B,
                     V (*sum)[COLUMNS]) {
  constexpr int ROWS_AT_ONCE = rows_at_once(COLUMNS);
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < COLUMNS; ++v) sum[r][v] = V{};
  for (int64_t first = 0; first < K; first += K_AT_ONCE) {
    int64_t length = K - first < K_AT_ONCE ? K - first : K_AT_ONCE;
    for (int r = 0; r < ROWS; r += ROWS_AT_ONCE) {
      const float* rows[ROWS_AT_ONCE];
      for (int s = 0; s < ROWS_AT_ONCE; ++s) rows[s] = a[r + s] + first;
      multiply_few<COLUMNS>(rows, length, B + first * COLUMNS * LANES, sum + r);
    }
  }
}

// Point to the rows of a tile; past the last row, to that row, whose sums nobody reads.
inline int rows_of_tile(const float* first, int64_t stride, int64_t row, int64_t end,
                        const float** rows) {
  int count = end - row < ROWS ? int(end - row) : ROWS;
  for (int r = 0; r < ROWS; ++r)
    rows[r] = first + (row + (r < count ? r : count - 1)) * stride;
  return count;
}

// Where step t begins in an array (steps, B, gates·n) that is in two.
template <typename T>
inline T* of_step(T* const* halves, const Sizes& s, int64_t t) {
  const int64_t size = s.batch * s.gates * s.units;
  return t < s.early ? halves[0] + t * size : halves[1] + (t - s.early) * size;
}

inline int64_t vectors(int64_t units) { return (units + LANES - 1) / LANES; }

int64_t packed_size(const Sizes& s) {
  return vectors(s.units) * LANES * s.units * s.gates;
}

// Gates of a block of LANES units whose sums are taken together: 2 of 4, or all 3; with
// masks of their own, each alone.
constexpr int together(int gates, int masks) {
  return masks > 1 ? 1 : gates == 3 ? 3 : 2;
}

// U (n, gates·n) as (block, gates / together, n, together, LANES), zeros past n.
void pack_forward(const Sizes& s, const float* U, float* packed) {
  const int64_t n = s.units;
  const int width = together(s.gates, s.masks);
  for (int64_t unit = 0; unit < n; unit += LANES)
    for (int gate = 0; gate < s.gates; gate += width)
      for (int64_t k = 0; k < n; ++k)
        for (int g = gate; g < gate + width; ++g)
          for (int64_t u = unit; u < unit + LANES; ++u)
            *packed++ = u < n ? U[(k * s.gates + g) * n + u] : 0.0f;
}

// Uᵀ (gates·n, n) as (pair of blocks, gates·n, 2, LANES); a last block may be alone.
void pack_backward(const Sizes& s, const float* U, float* packed) {
  const int64_t n = s.units, padded = vectors(n) * LANES, K = s.gates * n;
  for (int64_t unit = 0; unit < padded; unit += 2 * LANES) {
    const int64_t width = padded - unit < 2 * LANES ? LANES : 2 * LANES;
    for (int64_t u = unit; u < unit + width; ++u)
      for (int64_t k = 0; k < K; ++k)
        packed[k * width + u - unit] = u < n ? U[u * K + k] : 0.0f;
    packed += K * width;
  }
}

// Arithmetic with denormal numbers is a hundred times slower; TensorFlow, too, takes
// them as zero.
struct FlushDenormals {
#if defined(__SSE__)
  unsigned before = _mm_getcsr();
  FlushDenormals() { _mm_setcsr(before | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before); }
#else
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
};

template <int GATES, int MASKS, bool LINKED>
void forward_of(const Forward& a, const float* packed, int64_t begin, int64_t end,
                float* dropped) {
  const int64_t n = a.size.units, batch = a.size.batch, own = (end - begin) * n;
  constexpr int TOGETHER = together(GATES, MASKS), GROUPS = GATES / TOGETHER;
  constexpr int F = GATES - 3, G = F + 1, O = F + 2;  // before them, i
  float* now = dropped;  // m ⊙ h⁻ of this step and of the next one, for each mask
  float* next = dropped + MASKS * own;
  for (int mask = 0; mask < MASKS; ++mask)
    for (int64_t k = 0; k < own; ++k)
      now[mask * own + k] = a.h[begin * n + k] * a.m[(mask * batch + begin) * n + k];
  for (int64_t t = 0; t < a.size.steps; ++t) {
    const float *old_h = a.h + t * batch * n, *old_c = a.c + t * batch * n;
    float *new_h = a.h + (t + 1) * batch * n, *new_c = a.c + (t + 1) * batch * n;
    const float *z_t = of_step(a.z, a.size, t), *block_of_U = packed;
    float* gates = of_step(a.gates, a.size, t);
    for (int64_t unit = 0; unit < n; unit += LANES) {
      const int64_t width = n - unit < LANES ? n - unit : LANES;
      V p_i = {}, p_f = {}, p_o = {};
      if (a.size.peepholes) {
        p_i = load(a.p + unit, width);
        p_f = load(a.p + n + unit, width);
        p_o = load(a.p + 2 * n + unit, width);
      }
      V b[GATES], q = {}, r_below = {}, b_d = {};
      for (int g = 0; g < GATES; ++g) b[g] = load(a.b + g * n + unit, width);
      if (LINKED) {
        q = load(a.of_d + unit, width);
        r_below = load(a.of_d + n + unit, width);
        b_d = load(a.of_d + 2 * n + unit, width);
      }
      for (int64_t row = begin; row < end; row += ROWS) {
        int count = end - row < ROWS ? int(end - row) : ROWS;
        for (int r = 0; r < count; ++r) {
          for (int g = 0; g < GATES; ++g)
            prefetch(z_t + ((row + r) * GATES + g) * n + unit, width);
          prefetch(new_c + (row + r) * n + unit, width);
          prefetch(new_h + (row + r) * n + unit, width);
          if (LINKED) {
            prefetch(a.z_d + (t * batch + row + r) * n + unit, width);
            prefetch(a.below + (t * batch + row + r) * n + unit, width);
          }
        }
        V sum[GROUPS][ROWS][TOGETHER];
        for (int group = 0; group < GROUPS; ++group) {
          const float *rows[ROWS], *read = MASKS ? now - begin * n : old_h;
          if (MASKS > 1) read += group * own;
          rows_of_tile(read, n, row, end, rows);
          multiply<TOGETHER>(rows, n, block_of_U + group * n * TOGETHER * LANES,
                             sum[group]);
        }
        for (int r = 0; r < count; ++r) {
          const int64_t at = (row + r) * n + unit;
          const int64_t at_gates = (row + r) * GATES * n + unit;
          V z[GATES];
          for (int g = 0; g < GATES; ++g)
            z[g] = sum[g / TOGETHER][r][g % TOGETHER] +
                   (load(z_t + at_gates + g * n, width) + b[g]);
          const V old = load(old_c + at, width);
          const V f = sigmoid(z[F] + p_f * old), g = tanh(z[G]);
          const V i = GATES == 4 ? sigmoid(z[0] + p_i * old) : 1.0f - f;
          V c = f * old + i * g;
          if (LINKED) {
            const int64_t at_d = t * batch * n + at;
            const V below = load(a.below + at_d, width);
            const V d = sigmoid(load(a.z_d + at_d, width) + b_d + q * old +
                                r_below * below);
            store(a.d + at_d, d, width);
            c += d * below;
          }
          const V o = sigmoid(z[O] + p_o * c);
          V h = o * tanh(c);
          if (a.keep && !a.keep[t * batch + row + r]) {
            c = old;
            h = load(old_h + at, width);
          }
          if (GATES == 4) store(gates + at_gates, i, width);
          store(gates + at_gates + F * n, f, width);
          store(gates + at_gates + G * n, g, width);
          store(gates + at_gates + O * n, o, width);
          store(new_c + at, c, width);
          store(new_h + at, h, width);
          for (int mask = 0; mask < MASKS; ++mask)
            store(next + mask * own + at - begin * n,
                  h * load(a.m + mask * batch * n + at, width), width);
        }
      }
      block_of_U += n * GATES * LANES;
    }
    float* swapped = now;
    now = next;
    next = swapped;
  }
}

// Backward in time. With d_ for the gradient of the loss, τ = tanh(c), and d_h, d_c those
// that come from the later steps,
//
//     d_h = Σ m ⊙ (d_z of the step after) Uᵀ + d_output       over the masks
//     d_z_o = d_h ⊙ τ ⊙ o (1 − o)
//     d_c = d_c + d_h ⊙ o (1 − τ²) + d_z_o ⊙ p_o              and that of c itself, if any
//     d_z_f = d_c ⊙ c⁻ ⊙ f (1 − f)                 coupled: d_c ⊙ (c⁻ − g) ⊙ f (1 − f)
//     d_z_i = d_c ⊙ g ⊙ i (1 − i)
//     d_z_g = d_c ⊙ i ⊙ (1 − g²)
//     d_c⁻ = d_c ⊙ f + d_z_i ⊙ p_i + d_z_f ⊙ p_f
//     d_p_i += d_z_i ⊙ c⁻,  d_p_f += d_z_f ⊙ c⁻,  d_p_o += d_z_o ⊙ c,  d_b += d_z
//
// Linked, also
//
//     d_z_d = d_c ⊙ c_below ⊙ d (1 − d)
//     d_c_below = d_c ⊙ d + d_z_d ⊙ r
//     d_c⁻ += d_z_d ⊙ q
//     d_q += d_z_d ⊙ c⁻,  d_r += d_z_d ⊙ c_below,  d_b_d += d_z_d
//
// A step that is not kept hands d_h and d_c on.
template <int GATES, int MASKS, bool LINKED, int COLUMNS>
void backward_block(const Backward& a, const float* block_of_U, int64_t t, int64_t unit,
                    int64_t begin, int64_t end, float* sums) {
  const int64_t n = a.size.units, batch = a.size.batch, steps = a.size.steps;
  constexpr int F = GATES - 3, G = F + 1, O = F + 2;
  const float* gates = t < 0 ? nullptr : of_step(a.gates, a.size, t);
  const float* d_z_after = t + 1 < steps ? of_step(a.d_z, a.size, t + 1) : nullptr;
  float* d_z = t < 0 ? nullptr : of_step(a.d_z, a.size, t);
  for (int64_t row = begin; row < end; row += ROWS) {
    constexpr int PARTS = MASKS > 1 ? MASKS : 1;
    V sum[PARTS][ROWS][COLUMNS];
    int count = end - row < ROWS ? int(end - row) : ROWS;
    if (t >= 0)
      for (int r = 0; r < count; ++r)
        for (int v = 0; v < COLUMNS; ++v) {
          const int64_t u = unit + v * LANES, at = (row + r) * n + u;
          const int64_t width = n - u < LANES ? n - u : LANES;
          for (int g = 0; g < GATES; ++g)
            prefetch(gates + ((row + r) * GATES + g) * n + u, width);
          prefetch(a.c + t * batch * n + at, width);
          if (a.d_outputs) prefetch(a.d_outputs + t * batch * n + at, width);
          if (a.d_all_c) prefetch(a.d_all_c + t * batch * n + at, width);
          if (LINKED) {
            prefetch(a.d + t * batch * n + at, width);
            prefetch(a.below + t * batch * n + at, width);
            prefetch(a.d_below + t * batch * n + at, width);
          }
        }
    for (int part = 0; t + 1 < steps && part < PARTS; ++part) {
      const int64_t K = GATES / PARTS * n;
      const float* rows[ROWS];
      rows_of_tile(d_z_after + part * K, GATES * n, row, end, rows);
      multiply<COLUMNS>(rows, K, block_of_U + part * K * COLUMNS * LANES, sum[part]);
    }
    for (int v = 0; v < COLUMNS; ++v) {
      const int64_t u = unit + v * LANES;
      const int64_t width = n - u < LANES ? n - u : LANES;
      V p_i = {}, p_f = {}, p_o = {}, d_p_i = {}, d_p_f = {}, d_p_o = {};
      V d_b[GATES] = {}, q = {}, r_below = {}, d_q = {}, d_r = {}, d_b_d = {};
      if (a.size.peepholes && t >= 0) {
        p_i = load(a.p + u, width);
        p_f = load(a.p + n + u, width);
        p_o = load(a.p + 2 * n + u, width);
      }
      if (LINKED && t >= 0) {
        q = load(a.of_d + u, width);
        r_below = load(a.of_d + n + u, width);
      }
      for (int r = 0; r < count; ++r) {
        const int64_t at = (row + r) * n + u;
        V d_h = {};
        if (t + 1 < steps) {
          if (MASKS == 0) d_h = sum[0][r][v];
          for (int mask = 0; mask < MASKS; ++mask)
            d_h += sum[mask][r][v] * load(a.m + mask * batch * n + at, width);
          if (a.keep && !a.keep[(t + 1) * batch + row + r])
            d_h += load(a.d_h + at, width);
        } else {
          d_h = load(a.d_h + at, width);
        }
        if (t >= 0 && a.d_outputs) d_h += load(a.d_outputs + t * batch * n + at, width);
        if (t < 0 || a.keep) store(a.d_h + at, d_h, width);
        if (t < 0) continue;  // these are the gradients of the initial h
        const int64_t at_gates = (row + r) * GATES * n + u, at_all = t * batch * n + at;
        if (a.keep && !a.keep[t * batch + row + r]) {
          for (int g = 0; g < GATES; ++g) store(d_z + at_gates + g * n, V{}, width);
          if (LINKED) {
            store(a.d_z_d + at_all, V{}, width);
            store(a.d_below + at_all, V{}, width);
          }
          continue;
        }
        const V old = load(a.c + t * batch * n + at, width);
        const V c = load(a.c + (t + 1) * batch * n + at, width);
        const V f = load(gates + at_gates + F * n, width);
        const V g = load(gates + at_gates + G * n, width);
        const V o = load(gates + at_gates + O * n, width);
        const V i = GATES == 4 ? load(gates + at_gates, width) : 1.0f - f;
        const V shown = tanh(c);
        const V d_z_o = d_h * shown * (o * (1.0f - o));
        V d_c = load(a.d_c + at, width) + d_h * o * (1.0f - shown * shown) +
                d_z_o * p_o;
        if (a.d_all_c) d_c += load(a.d_all_c + at_all, width);
        const V d_f = d_c * (GATES == 4 ? old : old - g);
        const V d_z_f = d_f * (f * (1.0f - f));
        const V d_z_g = d_c * i * (1.0f - g * g);
        V d_old = d_c * f + d_z_f * p_f;
        if (GATES == 4) {
          const V d_z_i = d_c * g * (i * (1.0f - i));
          d_old += d_z_i * p_i;
          d_p_i += d_z_i * old;
          d_b[0] += d_z_i;
          store(d_z + at_gates, d_z_i, width);
        }
        if (LINKED) {
          const V d = load(a.d + at_all, width), below = load(a.below + at_all, width);
          const V d_z_d = d_c * below * (d * (1.0f - d));
          store(a.d_z_d + at_all, d_z_d, width);
          store(a.d_below + at_all, d_c * d + d_z_d * r_below, width);
          d_old += d_z_d * q;
          d_q += d_z_d * old;
          d_r += d_z_d * below;
          d_b_d += d_z_d;
        }
        store(d_z + at_gates + F * n, d_z_f, width);
        store(d_z + at_gates + G * n, d_z_g, width);
        store(d_z + at_gates + O * n, d_z_o, width);
        store(a.d_c + at, d_old, width);
        d_p_f += d_z_f * old;
        d_p_o += d_z_o * c;
        d_b[F] += d_z_f;
        d_b[G] += d_z_g;
        d_b[O] += d_z_o;
      }
      if (t < 0) continue;
      float* of_tile = sums + row / ROWS * sums_size(a.size) + u;
      if (a.size.peepholes) {
        add(of_tile, d_p_i, width);
        add(of_tile + n, d_p_f, width);
        add(of_tile + 2 * n, d_p_o, width);
      }
      for (int g = 0; g < GATES; ++g) add(of_tile + (3 + g) * n, d_b[g], width);
      if (LINKED) {
        add(of_tile + (3 + GATES) * n, d_q, width);
        add(of_tile + (4 + GATES) * n, d_r, width);
        add(of_tile + (5 + GATES) * n, d_b_d, width);
      }
    }
  }
}

template <int GATES, int MASKS, bool LINKED>
void backward_of(const Backward& a, const float* packed, int64_t begin, int64_t end,
                 float* sums) {
  const int64_t n = a.size.units;
  for (int64_t t = a.size.steps - 1; t >= -1; --t) {
    const float* block = packed;
    int64_t unit = 0;
    for (; unit + LANES < n; unit += 2 * LANES, block += 2 * LANES * GATES * n)
      backward_block<GATES, MASKS, LINKED, 2>(a, block, t, unit, begin, end, sums);
    if (unit < n) backward_block<GATES, MASKS, LINKED, 1>(a, block, t, unit, begin, end, sums);
  }
}

// One function for each kind of cell: GATES, MASKS, LINKED.
#define FOR_EACH_CELL(OF)                                       \
  const bool coupled = a.size.gates == 3, linked = a.size.linked; \
  const int masks = a.size.masks;                               \
  auto of = coupled  ? masks == 0   ? OF<3, 0, false>           \
                       : masks == 1 ? OF<3, 1, false>           \
                                    : OF<3, 3, false>           \
            : linked ? masks == 0   ? OF<4, 0, true>            \
                       : masks == 1 ? OF<4, 1, true>            \
                                    : OF<4, 4, true>            \
            : masks == 0 ? OF<4, 0, false>                      \
            : masks == 1 ? OF<4, 1, false>                      \
                         : OF<4, 4, false>;

void forward(const Forward& a, const float* packed, int64_t begin, int64_t end,
             float* dropped) {
  FlushDenormals flush;
  FOR_EACH_CELL(forward_of)
  of(a, packed, begin, end, dropped);
}

void backward(const Backward& a, const float* packed, int64_t begin, int64_t end,
              float* sums) {
  FlushDenormals flush;
  FOR_EACH_CELL(backward_of)
  of(a, packed, begin, end, sums);
}

}  // namespace

extern const Path JOIN(path_, LSTM_PATH);
const Path JOIN(path_, LSTM_PATH) = {TEXT(LSTM_PATH), packed_size, pack_forward,
                                     pack_backward,   forward,     backward};

}  // namespace native_lstm
