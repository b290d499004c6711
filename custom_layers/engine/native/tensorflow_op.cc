// TensorFlow's operators around lstm.h, by its C interface for operators and kernels.
//
// Of TensorFlow's two interfaces this one was taken after a trial. It is C: this file
// compiles in a third of a second, where an operator of three lines takes 5.5 s with the
// headers of the C++ interface, and the library needs 23 functions of C, none of them
// named after the version of a C++ library. It offers no pool of threads; lstm.cc starts
// its own.
#include <string.h>

#include <exception>
#include <string>
#include <vector>

#include "lstm.h"
#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

namespace {

using namespace native_lstm;

struct Options {
  int64_t path, threads;
};

void* create(TF_OpKernelConstruction* construction) {
  Options* options = new Options{0, 1};
  TF_Status* status = TF_NewStatus();
  TF_OpKernelConstruction_GetAttrInt64(construction, "path", &options->path, status);
  if (TF_GetCode(status) == TF_OK)
    TF_OpKernelConstruction_GetAttrInt64(construction, "threads", &options->threads,
                                         status);
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return options;
}

void destroy(void* options) { delete static_cast<Options*>(options); }

struct Failed {};

std::string text(const std::vector<int64_t>& shape) {
  std::string sizes;
  for (int64_t size : shape) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  return "(" + sizes + ")";
}

struct Input {
  std::vector<int64_t> shape;
  void* data;
};

// One call of a kernel: its tensors, which TensorFlow keeps until it returns.
struct Call {
  TF_OpKernelContext* context;
  TF_Status* status = TF_NewStatus();

  explicit Call(TF_OpKernelContext* context) : context(context) {}
  ~Call() { TF_DeleteStatus(status); }
  void fail(TF_Code code, const char* text) {
    TF_SetStatus(status, code, text);
    throw Failed();
  }
  void check() {
    if (TF_GetCode(status) != TF_OK) throw Failed();
  }
  Input input(int number) {
    TF_Tensor* tensor = nullptr;
    TF_GetInput(context, number, &tensor, status);
    check();
    Input input = {{}, TF_TensorData(tensor)};
    for (int k = 0; k < TF_NumDims(tensor); ++k)
      input.shape.push_back(TF_Dim(tensor, k));
    TF_DeleteTensor(tensor);  // else an output could not take over its memory
    return input;
  }
  // An input of this shape; null for one without elements, where that is allowed.
  template <typename T = const float>
  T* input(int number, std::vector<int64_t> shape, bool optional = false) {
    const Input found = input(number);
    if (optional && found.shape == std::vector<int64_t>{0}) return nullptr;
    if (found.shape != shape)
      fail(TF_INVALID_ARGUMENT, ("input " + std::to_string(number) + " has shape " +
                                 text(found.shape) + ", it must be " + text(shape))
                                    .c_str());
    return static_cast<T*>(found.data);
  }
  // An output; it may overwrite the input `from`, if nobody else reads that.
  float* output(int number, std::vector<int64_t> shape, int from = -1) {
    size_t bytes = sizeof(float);
    for (int64_t size : shape) bytes *= size;
    const int rank = int(shape.size());
    TF_Tensor* tensor =
        from < 0 ? TF_AllocateOutput(context, number, TF_FLOAT, shape.data(), rank, bytes,
                                     status)
                 : TF_ForwardInputOrAllocateOutput(context, &from, 1, number,
                                                   shape.data(), rank, nullptr, status);
    check();
    float* data = static_cast<float*>(TF_TensorData(tensor));
    TF_DeleteTensor(tensor);
    return data;
  }
};

// The sizes, from z or its like in two (steps, B, gates·n), and U (n, gates·n).
Sizes sizes(Call& call, int like_z, int of_U, int of_p, int of_m, int of_d) {
  const Input early = call.input(like_z), late = call.input(like_z + 1);
  const Input U = call.input(of_U);
  if (early.shape.size() != 3 || late.shape.size() != 3)
    call.fail(TF_INVALID_ARGUMENT, "z must have 3 axes");
  const int64_t n = U.shape.size() == 2 ? U.shape[0] : 0, gates = n ? U.shape[1] / n : 0;
  if ((gates != 3 && gates != 4) || U.shape[1] != gates * n)
    call.fail(TF_INVALID_ARGUMENT, "U must be (units, 3 or 4 times units)");
  const int64_t steps = early.shape[0] + late.shape[0];
  const bool peepholes = call.input(of_p).shape.size() == 2;
  const Input m = call.input(of_m);
  const int64_t masks = m.shape.size() == 3 ? m.shape[0] : 0;
  if (masks != 0 && masks != 1 && masks != gates)
    call.fail(TF_INVALID_ARGUMENT, "there must be 0 or 1 masks, or one for each gate");
  const bool linked = call.input(of_d).shape.size() == 2;
  if (linked && gates != 4)
    call.fail(TF_INVALID_ARGUMENT, "with a gate d there must be 4 others");
  return Sizes{steps,      early.shape[0], early.shape[1], n,
               int(gates), int(masks),     peepholes,      linked};
}

const Path& path_of(Call& call, const Options& options) {
  const Path* path = choose_path(int(options.path));
  if (!path) call.fail(TF_UNIMPLEMENTED, "this processor lacks the path asked for");
  return *path;
}

void forward(Call& call, const Options& options) {
  const Sizes s = sizes(call, 0, 2, 6, 7, 9);
  const int64_t width = s.gates * s.units, state = s.batch * s.units;
  Forward a = {};
  a.size = s;
  a.U = call.input(2, {s.units, width});
  a.b = call.input(3, {width});
  const float* h = call.input(4, {s.batch, s.units});
  const float* c = call.input(5, {s.batch, s.units});
  a.p = call.input(6, {3, s.units}, true);
  a.m = call.input(7, {s.masks, s.batch, s.units}, true);
  a.keep = call.input<const unsigned char>(8, {s.steps, s.batch}, true);
  const std::vector<int64_t> all = {s.steps, s.batch, s.units};
  a.of_d = call.input(9, {3, s.units}, true);
  a.z_d = call.input(10, all, !s.linked);
  a.below = call.input(11, all, !s.linked);
  a.d = s.linked ? call.output(4, all, 10) : call.output(4, {0});
  a.h = call.output(0, {s.steps + 1, s.batch, s.units});
  a.c = call.output(1, {s.steps + 1, s.batch, s.units});
  for (int half = 0; half < 2; ++half) {
    const int64_t steps = half ? s.steps - s.early : s.early;
    a.z[half] = call.input(half, {steps, s.batch, width});
    a.gates[half] = call.output(2 + half, {steps, s.batch, width}, half);
  }
  const Path& path = path_of(call, options);
  if (state == 0) return;  // memcpy might get null
  memcpy(a.h, h, sizeof(float) * state);
  memcpy(a.c, c, sizeof(float) * state);
  run_forward(path, a, int(options.threads));
}

void backward(Call& call, const Options& options) {
  const Sizes s = sizes(call, 4, 0, 1, 2, 11);
  const int64_t width = s.gates * s.units, state = s.batch * s.units;
  Backward a = {};
  a.size = s;
  a.U = call.input(0, {s.units, width});
  a.p = call.input(1, {3, s.units}, true);
  a.m = call.input(2, {s.masks, s.batch, s.units}, true);
  a.keep = call.input<const unsigned char>(3, {s.steps, s.batch}, true);
  a.c = call.input(6, {s.steps + 1, s.batch, s.units});
  const std::vector<int64_t> all = {s.steps, s.batch, s.units};
  a.d_outputs = call.input(7, all, true);
  a.d_all_c = call.input(8, all, true);
  const float* d_h = call.input(9, {s.batch, s.units});
  const float* d_c = call.input(10, {s.batch, s.units});
  a.of_d = call.input(11, {3, s.units}, true);
  a.d = call.input(12, all, !s.linked);
  a.below = call.input(13, all, !s.linked);
  a.d_z_d = s.linked ? call.output(6, all, 12) : call.output(6, {0});
  a.d_below = s.linked ? call.output(7, all) : call.output(7, {0});
  a.d_of_d = s.linked ? call.output(8, {3, s.units}) : call.output(8, {0});
  for (int half = 0; half < 2; ++half) {
    const int64_t steps = half ? s.steps - s.early : s.early;
    a.gates[half] = call.input(4 + half, {steps, s.batch, width});
    a.d_z[half] = call.output(half, {steps, s.batch, width}, 4 + half);
  }
  a.d_h = call.output(2, {s.batch, s.units});
  a.d_c = call.output(3, {s.batch, s.units});
  a.d_p = call.output(4, {3, s.units});
  a.d_b = call.output(5, {width});
  if (state != 0) {  // else memcpy might get null
    memcpy(a.d_h, d_h, sizeof(float) * state);
    memcpy(a.d_c, d_c, sizeof(float) * state);
  }
  run_backward(path_of(call, options), a, int(options.threads));
}

template <void (*Compute)(Call&, const Options&)>
void compute(void* options, TF_OpKernelContext* context) {
  Call call(context);
  try {
    Compute(call, *static_cast<Options*>(options));
    return;
  } catch (const Failed&) {
  } catch (const std::exception& error) {
    TF_SetStatus(call.status, TF_RESOURCE_EXHAUSTED, error.what());
  }
  TF_OpKernelContext_Failure(context, call.status);
}

void unknown_shapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

void add(const char* name, std::vector<const char*> inputs,
         std::vector<const char*> outputs, void (*compute)(void*, TF_OpKernelContext*)) {
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(name);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(op, input);
  for (const char* output : outputs) TF_OpDefinitionBuilderAddOutput(op, output);
  TF_OpDefinitionBuilderAddAttr(op, "path: int");
  TF_OpDefinitionBuilderAddAttr(op, "threads: int");
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, unknown_shapes);
  TF_Status* status = TF_NewStatus();
  TF_RegisterOpDefinition(op, status);
  if (TF_GetCode(status) == TF_OK)
    TF_RegisterKernelBuilder(
        name, TF_NewKernelBuilder(name, "CPU", create, compute, destroy), status);
  TF_DeleteStatus(status);
}

struct Registered {
  Registered() {
    add("CustomLayersLstm",
        {"z_early: float", "z_late: float", "u: float", "b: float", "h: float",
         "c: float", "p: float", "m: float", "keep: bool", "of_d: float", "z_d: float",
         "below: float"},
        {"all_h: float", "all_c: float", "gates_early: float", "gates_late: float",
         "d: float"},
        compute<forward>);
    add("CustomLayersLstmGrad",
        {"u: float", "p: float", "m: float", "keep: bool", "gates_early: float",
         "gates_late: float", "all_c: float", "d_outputs: float", "d_all_c: float",
         "d_h: float", "d_c: float", "of_d: float", "d: float", "below: float"},
        {"d_z_early: float", "d_z_late: float", "d_initial_h: float",
         "d_initial_c: float", "d_p: float", "d_b: float", "d_z_d: float",
         "d_below: float", "d_of_d: float"},
        compute<backward>);
  }
} registered;

}  // namespace
