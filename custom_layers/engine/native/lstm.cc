// The choice of a path, and the sharing of rows between threads.
//
// A call starts its threads anew, each on another core than the caller's. That costs a
// tenth of a millisecond, of several. Left to itself the system may start a thread on
// the caller's core, to let the others sleep, and move it milliseconds later. After the
// call a thread that came too late may still be there for a moment; it touches nothing of
// the call's.
#include "lstm.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <new>

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
const size_t U_OF_A_CORE = 512 * 1024;  // bytes, half of a usual second cache

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

// Rows in chunks, which threads take until there are none left.
struct Chunks {
  std::function<void(int64_t begin, int64_t end)> work;
  int64_t batch, rows, count;  // rows of all, of a chunk; chunks
  std::atomic<int64_t> taken{0};
  std::mutex mutex;
  std::condition_variable all_done;
  int64_t done = 0;

  void take() {
    for (int64_t k; (k = taken.fetch_add(1)) < count;) {
      const int64_t end = (k + 1) * rows;
      work(k * rows, end < batch ? end : batch);
      std::lock_guard<std::mutex> lock(mutex);
      if (++done == count) all_done.notify_one();
    }
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    all_done.wait(lock, [this] { return done == count; });
  }
};

void* take_chunks(void* shared) {
  std::unique_ptr<std::shared_ptr<Chunks>> chunks(
      static_cast<std::shared_ptr<Chunks>*>(shared));
  (*chunks)->take();
  return nullptr;
}

// Start a thread that takes chunks, on any core that the caller may use but its own.
// Without room for a thread nothing starts, and the caller does it all.
void start_elsewhere(const std::shared_ptr<Chunks>& chunks) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes)) return;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  cpu_set_t cores;
  if (!sched_getaffinity(0, sizeof cores, &cores)) {
    CPU_CLR(sched_getcpu(), &cores);
    if (CPU_COUNT(&cores)) pthread_attr_setaffinity_np(&attributes, sizeof cores, &cores);
  }
  auto shared = new (std::nothrow) std::shared_ptr<Chunks>(chunks);
  pthread_t thread;
  if (!shared || pthread_create(&thread, &attributes, take_chunks, shared))
    delete shared;
  pthread_attr_destroy(&attributes);
}

// Call work(begin, end) for all rows, by up to `threads` threads. The caller waits for
// chunks, not for threads: one that starts late, on a busy machine, finds none left.
template <typename Work>
void share(const Sizes& s, int threads, const Work& work) {
  const int64_t tiles = (s.batch + ROWS - 1) / ROWS;
  const double size = double(s.steps) * s.batch * s.units * s.units * s.gates;
  int64_t count = threads < tiles ? threads : tiles;
  if (size / WORK_OF_A_THREAD < count) count = int64_t(size / WORK_OF_A_THREAD);
  if (count <= 1) return work(0, s.batch);
  // Small chunks even out the speeds of cores; but each reads all of U at every step,
  // which takes longer where a core's cache cannot keep it.
  const bool is_large = s.units * s.units * s.gates * sizeof(float) > U_OF_A_CORE;
  const int64_t parts = is_large ? count : 4 * count;
  const int64_t rows = (tiles + parts - 1) / parts * ROWS;
  auto chunks = std::make_shared<Chunks>();
  chunks->work = work;
  chunks->batch = s.batch, chunks->rows = rows;
  chunks->count = (s.batch + rows - 1) / rows;
  for (int64_t k = 1; k < count; ++k) start_elsewhere(chunks);
  chunks->take();
  chunks->wait();
}

}  // namespace

void run_forward(const Path& path, const Forward& a, int threads) {
  const Sizes& s = a.size;
  Floats packed = allocate(path.packed_size(s));
  const int64_t of_row = 2 * s.masks * s.units;
  Floats dropped = allocate(s.batch * of_row);
  path.pack_forward(s, a.U, packed.get());
  share(s, threads, [&](int64_t begin, int64_t end) {
    path.forward(a, packed.get(), begin, end, dropped.get() + begin * of_row);
  });
}

void run_backward(const Path& path, const Backward& a, int threads) {
  const Sizes& s = a.size;
  const int64_t tiles = (s.batch + ROWS - 1) / ROWS, of_p = 3 * s.units;
  const int64_t to_b = of_p + s.gates * s.units;  // where the sums of b end
  const int64_t of_tile = sums_size(s);
  Floats packed = allocate(path.packed_size(s));
  Floats sums = allocate(tiles * of_tile);
  memset(sums.get(), 0, sizeof(float) * tiles * of_tile);
  path.pack_backward(s, a.U, packed.get());
  share(s, threads, [&](int64_t begin, int64_t end) {
    path.backward(a, packed.get(), begin, end, sums.get());
  });
  for (int64_t k = 0; k < of_tile; ++k) {
    float sum = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) sum += sums.get()[tile * of_tile + k];
    (k < of_p ? a.d_p[k] : k < to_b ? a.d_b[k - of_p] : a.d_of_d[k - to_b]) = sum;
  }
}

}  // namespace native_lstm
