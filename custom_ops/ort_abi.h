// The part of ONNX Runtime's C ABI that spikec uses, declared by spikec itself, so that building needs no
// headers of ONNX Runtime. Its function table only ever grows, so an entry is named by its position ("slot"),
// which is the same in every later version. check_abi.cc compares everything here with the official headers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spikec::abi {

// The lowest version with everything used here. All slots are in 17; the in-place maps of OrtCustomOp came
// with 18.
inline constexpr std::uint32_t kApiVersion = 18;
inline constexpr const char* kRuntimeNeeded = "1.18";

struct OrtApi;
struct OrtStatus;
struct OrtValue;
struct OrtOp;
struct OrtOpAttr;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtShapeInferContext;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtTensorTypeAndShapeInfo;
struct OrtTypeInfo;
struct OrtMemoryInfo;

struct OrtApiBase {
  const OrtApi* (*GetApi)(std::uint32_t version);
  const char* (*GetVersionString)();
};

enum class ErrorCode : std::uint32_t { Ok, Fail, InvalidArgument, NotImplemented = 9, InvalidGraph };

enum class ElementType : std::uint32_t {
  Undefined,
  Float,
  UInt8,
  Int8,
  UInt16,
  Int16,
  Int32,
  Int64,
  String,
  Bool,
  Float16,
  Double,
  UInt32,
  UInt64,
  BFloat16 = 16,
};

enum class Arity : std::uint32_t { Required, Optional, Variadic };  // OrtCustomOpInputOutputCharacteristic
enum class AttrType : std::uint32_t { Undefined, Int, Ints, Float, Floats, String, Strings };
enum class MemType : std::int32_t { Default = 0 };
enum class AllocatorType : std::int32_t { Device = 0, Arena = 1 };

// What a library gives for each op. The runtime reads `version` to know how many of the fields are there.
struct OrtCustomOp {
  std::uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  ElementType (*GetInputType)(const OrtCustomOp*, std::size_t index);
  std::size_t (*GetInputTypeCount)(const OrtCustomOp*);
  ElementType (*GetOutputType)(const OrtCustomOp*, std::size_t index);
  std::size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void* kernel, OrtKernelContext*);
  void (*KernelDestroy)(void* kernel);
  Arity (*GetInputCharacteristic)(const OrtCustomOp*, std::size_t index);
  Arity (*GetOutputCharacteristic)(const OrtCustomOp*, std::size_t index);
  MemType (*GetInputMemoryType)(const OrtCustomOp*, std::size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  std::size_t (*GetMayInplace)(int** inputs, int** outputs);
  void (*ReleaseMayInplace)(int* inputs, int* outputs);
  std::size_t (*GetAliasMap)(int** inputs, int** outputs);
  void (*ReleaseAliasMap)(int* inputs, int* outputs);
};

// The function table in use: set once, when the library is registered.
inline const OrtApi* table = nullptr;

// One entry of the function table: a position and a signature. Calling it calls the runtime.
template <std::size_t Position, class Signature>
struct Slot;

template <std::size_t Position, class Result, class... Args>
struct Slot<Position, Result(Args...)> {
  using Function = Result (*)(Args...);
  static constexpr std::size_t position = Position;

  Result operator()(Args... args) const { return in(table)(args...); }
  static Function in(const OrtApi* api) { return reinterpret_cast<const Function*>(api)[Position]; }
};

// Failure: a call that returns OrtStatus* failed when the pointer is not null; the caller owns it then.
inline constexpr Slot<0, OrtStatus*(ErrorCode, const char*)> CreateStatus;
inline constexpr Slot<1, ErrorCode(const OrtStatus*)> GetErrorCode;
inline constexpr Slot<2, const char*(const OrtStatus*)> GetErrorMessage;
inline constexpr Slot<93, void(OrtStatus*)> ReleaseStatus;

// Registration
inline constexpr Slot<26, OrtStatus*(const char* domain, OrtCustomOpDomain**)> CreateCustomOpDomain;
inline constexpr Slot<27, OrtStatus*(OrtCustomOpDomain*, const OrtCustomOp*)> CustomOpDomain_Add;
inline constexpr Slot<28, OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*)> AddCustomOpDomain;
inline constexpr Slot<101, void(OrtCustomOpDomain*)> ReleaseCustomOpDomain;

// Values
inline constexpr Slot<49, OrtStatus*(const OrtMemoryInfo*, void* data, std::size_t bytes,
                                     const std::int64_t* shape, std::size_t rank, ElementType, OrtValue**)>
    CreateTensorWithDataAsOrtValue;
inline constexpr Slot<51, OrtStatus*(OrtValue*, void** data)> GetTensorMutableData;
inline constexpr Slot<65, OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**)> GetTensorTypeAndShape;
inline constexpr Slot<96, void(OrtValue*)> ReleaseValue;
inline constexpr Slot<192, OrtStatus*(const OrtValue*, int* has)> HasValue;
inline constexpr Slot<68, OrtStatus*(const char* name, AllocatorType, int id, MemType, OrtMemoryInfo**)>
    CreateMemoryInfo;
inline constexpr Slot<69, OrtStatus*(AllocatorType, MemType, OrtMemoryInfo**)> CreateCpuMemoryInfo;
inline constexpr Slot<94, void(OrtMemoryInfo*)> ReleaseMemoryInfo;

// Types and shapes
inline constexpr Slot<55, OrtStatus*(const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**)>
    CastTypeInfoToTensorInfo;
inline constexpr Slot<57, OrtStatus*(OrtTensorTypeAndShapeInfo**)> CreateTensorTypeAndShapeInfo;
inline constexpr Slot<58, OrtStatus*(OrtTensorTypeAndShapeInfo*, ElementType)> SetTensorElementType;
inline constexpr Slot<59, OrtStatus*(OrtTensorTypeAndShapeInfo*, const std::int64_t*, std::size_t rank)>
    SetDimensions;
inline constexpr Slot<60, OrtStatus*(const OrtTensorTypeAndShapeInfo*, ElementType*)> GetTensorElementType;
inline constexpr Slot<61, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::size_t* rank)> GetDimensionsCount;
inline constexpr Slot<62, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::int64_t*, std::size_t rank)>
    GetDimensions;
inline constexpr Slot<63, OrtStatus*(const OrtTensorTypeAndShapeInfo*, const char**, std::size_t rank)>
    GetSymbolicDimensions;
inline constexpr Slot<64, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::size_t* count)>
    GetTensorShapeElementCount;
inline constexpr Slot<98, void(OrtTypeInfo*)> ReleaseTypeInfo;
inline constexpr Slot<99, void(OrtTensorTypeAndShapeInfo*)> ReleaseTensorTypeAndShapeInfo;
inline constexpr Slot<271, OrtStatus*(OrtTensorTypeAndShapeInfo*, const char**, std::size_t rank)>
    SetSymbolicDimensions;

// What a kernel sees when it is made. Attributes of variable length are asked for twice: first for their
// size.
inline constexpr Slot<85, OrtStatus*(const OrtKernelInfo*, const char* name, float*)>
    KernelInfoGetAttribute_float;
inline constexpr Slot<86, OrtStatus*(const OrtKernelInfo*, const char* name, std::int64_t*)>
    KernelInfoGetAttribute_int64;
inline constexpr Slot<87, OrtStatus*(const OrtKernelInfo*, const char* name, char*, std::size_t*)>
    KernelInfoGetAttribute_string;
inline constexpr Slot<162, OrtStatus*(const OrtKernelInfo*, const char* name, float*, std::size_t*)>
    KernelInfoGetAttributeArray_float;
inline constexpr Slot<163, OrtStatus*(const OrtKernelInfo*, const char* name, std::int64_t*, std::size_t*)>
    KernelInfoGetAttributeArray_int64;
inline constexpr Slot<217, OrtStatus*(const OrtKernelInfo*, OrtKernelInfo**)> CopyKernelInfo;
inline constexpr Slot<218, void(OrtKernelInfo*)> ReleaseKernelInfo;
inline constexpr Slot<230, OrtStatus*(const OrtKernelInfo*, std::size_t*)> KernelInfo_GetInputCount;
inline constexpr Slot<231, OrtStatus*(const OrtKernelInfo*, std::size_t*)> KernelInfo_GetOutputCount;
inline constexpr Slot<234, OrtStatus*(const OrtKernelInfo*, std::size_t, OrtTypeInfo**)>
    KernelInfo_GetInputTypeInfo;
inline constexpr Slot<235, OrtStatus*(const OrtKernelInfo*, std::size_t, OrtTypeInfo**)>
    KernelInfo_GetOutputTypeInfo;
inline constexpr Slot<244, OrtStatus*(const OrtKernelInfo*, char*, std::size_t*)> KernelInfo_GetNodeName;
inline constexpr Slot<249, OrtStatus*(const OrtKernelInfo*, std::size_t, int* is_constant, const OrtValue**)>
    KernelInfoGetConstantInput_tensor;

// What a kernel sees when it runs
inline constexpr Slot<88, OrtStatus*(const OrtKernelContext*, std::size_t*)> KernelContext_GetInputCount;
inline constexpr Slot<89, OrtStatus*(const OrtKernelContext*, std::size_t*)> KernelContext_GetOutputCount;
inline constexpr Slot<90, OrtStatus*(const OrtKernelContext*, std::size_t, const OrtValue**)>
    KernelContext_GetInput;
inline constexpr Slot<91, OrtStatus*(OrtKernelContext*, std::size_t, const std::int64_t* shape,
                                     std::size_t rank, OrtValue**)>
    KernelContext_GetOutput;
inline constexpr Slot<274, OrtStatus*(const OrtKernelContext*, void (*)(void*, std::size_t),
                                      std::size_t total, std::size_t batches, void* argument)>
    KernelContext_ParallelFor;

// What shape inference sees
inline constexpr Slot<267, OrtStatus*(const OrtShapeInferContext*, std::size_t*)>
    ShapeInferContext_GetInputCount;
inline constexpr Slot<268, OrtStatus*(const OrtShapeInferContext*, std::size_t, OrtTensorTypeAndShapeInfo**)>
    ShapeInferContext_GetInputTypeShape;
inline constexpr Slot<269, OrtStatus*(const OrtShapeInferContext*, const char* name, const OrtOpAttr**)>
    ShapeInferContext_GetAttribute;
inline constexpr Slot<270,
                      OrtStatus*(const OrtShapeInferContext*, std::size_t, const OrtTensorTypeAndShapeInfo*)>
    ShapeInferContext_SetOutputTypeShape;
inline constexpr Slot<272, OrtStatus*(const OrtOpAttr*, AttrType, void* data, std::size_t bytes,
                                      std::size_t* needed)>
    ReadOpAttr;

// Calling one of the runtime's own operators from a kernel
inline constexpr Slot<211, OrtStatus*(const char* name, const void* data, int length, AttrType, OrtOpAttr**)>
    CreateOpAttr;
inline constexpr Slot<212, void(OrtOpAttr*)> ReleaseOpAttr;
inline constexpr Slot<213, OrtStatus*(const OrtKernelInfo*, const char* op, const char* domain, int version,
                                      const char** type_names, const ElementType* types, int type_count,
                                      const OrtOpAttr* const* attributes, int attribute_count,
                                      int input_count, int output_count, OrtOp**)>
    CreateOp;
inline constexpr Slot<214, OrtStatus*(const OrtKernelContext*, const OrtOp*, const OrtValue* const* inputs,
                                      int input_count, OrtValue* const* outputs, int output_count)>
    InvokeOp;
inline constexpr Slot<215, void(OrtOp*)> ReleaseOp;

}  // namespace spikec::abi
