// The choice of a path, and the sharing of rows between threads.
//
// A call starts its threads and waits for them. That costs tens of microseconds, of
// several milliseconds; a new thread starts on a core that is idle, and none is left
// over where a process forks.
#include "lstm.h"

#include <stdlib.h>
#include <string.h>

#include <exception>
#include <memory>
#include <new>
#include <thread>
#include <vector>

namespace native_lstm {

// The build defines HAS_… for each path that it compiled.
extern const Path path_portable, path_avx2, path_avx512;

const Path* choose_path(int number) {
#if defined(HAS_avx2) || defined(HAS_avx512)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#if defined(HAS_avx512)
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw");
  if (avx512 && (number == 0 || number == 3)) return &path_avx512;
#endif
#if defined(HAS_avx2)
  if (avx2 && (number == 0 || number == 2)) return &path_avx2;
#endif
  return number <= 1 ? &path_portable : nullptr;
}

namespace {

// Multiply-adds for which another thread is worth its start.
#if !defined(WORK_OF_A_THREAD)
#define WORK_OF_A_THREAD 1e6
#endif

struct Freed {
  void operator()(float* p) const { free(p); }
};
typedef std::unique_ptr<float, Freed> Floats;

Floats allocate(int64_t count) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, sizeof(float) * (count > 0 ? count : 1)))
    throw std::bad_alloc();
  return Floats(static_cast<float*>(p));
}

// Call work(begin, end) for all rows, by up to `threads` threads.
template <typename Work>
void share(const Sizes& s, int threads, const Work& work) {
  const int64_t tiles = (s.batch + ROWS - 1) / ROWS;
  const double size = double(s.steps) * s.batch * s.units * s.units * s.gates;
  int64_t count = threads < tiles ? threads : tiles;
  if (size / WORK_OF_A_THREAD < count) count = int64_t(size / WORK_OF_A_THREAD);
  if (count < 1) count = 1;
  auto border = [&](int64_t k) {
    const int64_t row = tiles * k / count * ROWS;
    return row < s.batch ? row : s.batch;
  };
  std::vector<std::thread> others;
  others.reserve(count);
  int64_t started = 1;
  try {
    for (; started < count; ++started)
      others.emplace_back(work, border(started), border(started + 1));
  } catch (const std::exception&) {  // no more threads: the rest is done here
  }
  work(border(0), border(1));
  for (int64_t k = started; k < count; ++k) work(border(k), border(k + 1));
  for (std::thread& other : others) other.join();
}

}  // namespace

void run_forward(const Path& path, const Forward& a, int threads) {
  const Sizes& s = a.size;
  Floats packed = allocate(path.packed_size(s));
  Floats dropped = allocate(a.m ? 2 * s.batch * s.units : 0);
  path.pack_forward(s, a.U, packed.get());
  share(s, threads, [&](int64_t begin, int64_t end) {
    path.forward(a, packed.get(), begin, end, dropped.get() + 2 * begin * s.units);
  });
}

void run_backward(const Path& path, const Backward& a, int threads) {
  const Sizes& s = a.size;
  const int64_t tiles = (s.batch + ROWS - 1) / ROWS, row = 3 * s.units;
  Floats packed = allocate(path.packed_size(s));
  Floats d_p = allocate(tiles * row);
  memset(d_p.get(), 0, sizeof(float) * tiles * row);
  path.pack_backward(s, a.U, packed.get());
  share(s, threads, [&](int64_t begin, int64_t end) {
    path.backward(a, packed.get(), begin, end, d_p.get());
  });
  memset(a.d_p, 0, sizeof(float) * row);
  for (int64_t tile = 0; tile < tiles; ++tile)
    for (int64_t k = 0; k < row; ++k) a.d_p[k] += d_p.get()[tile * row + k];
}

}  // namespace native_lstm
