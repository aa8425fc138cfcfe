// Compares ort_abi.h with the official headers while compiling: the position and signature of every slot, the
// layout of every struct, the value of every constant. Not part of the library; built when SPIKEC_ORT_HEADERS
// is given.
#include <onnxruntime_c_api.h>

#include <cstddef>
#include <tuple>
#include <type_traits>

#include "ort_abi.h"

namespace abi = spikec::abi;

// Two types are passed in the same way: as a pointer, the same float, or an integer or enum of the same size.
template <class Ours, class Theirs>
constexpr bool alike() {
  if (std::is_pointer_v<Theirs>) return std::is_pointer_v<Ours>;
  if (std::is_floating_point_v<Theirs> || std::is_void_v<Theirs>) return std::is_same_v<Ours, Theirs>;
  return !std::is_pointer_v<Ours> && !std::is_void_v<Ours> && !std::is_floating_point_v<Ours> &&
         sizeof(std::conditional_t<std::is_void_v<Ours>, char, Ours>) ==
             sizeof(std::conditional_t<std::is_void_v<Theirs>, char, Theirs>);
}

template <class Function>
struct Parts;
template <class Result, class... Args>
struct Parts<Result (*)(Args...)> {
  using type = std::tuple<Result (*)(), Args...>;
};
template <class Result, class... Args>
struct Parts<Result (*)(Args...) noexcept> : Parts<Result (*)(Args...)> {};

template <class Ours, class Theirs>
struct Same : std::false_type {};
template <class Result, class TheirResult, class... Args, class... TheirArgs>
  requires(sizeof...(Args) == sizeof...(TheirArgs))
struct Same<std::tuple<Result (*)(), Args...>, std::tuple<TheirResult (*)(), TheirArgs...>>
    : std::bool_constant<alike<Result, TheirResult>() && (alike<Args, TheirArgs>() && ...)> {};

template <class Ours, class Theirs>
constexpr bool same_signature = Same<typename Parts<Ours>::type, typename Parts<Theirs>::type>::value;

template <class Ours, class Theirs>
constexpr bool same_value(Ours ours, Theirs theirs) {
  return sizeof ours == sizeof theirs && static_cast<long>(ours) == static_cast<long>(theirs);
}

// Only the preprocessor can name the same member in two types.
#define CHECK_SLOT(name)                                                                                  \
  static_assert(offsetof(OrtApi, name) == decltype(abi::name)::position * sizeof(void*), #name " moved"); \
  static_assert(same_signature<decltype(abi::name)::Function, decltype(OrtApi::name)>,                    \
                #name " has another signature")

#define CHECK_FIELD(type, name)                                                                 \
  static_assert(offsetof(abi::type, name) == offsetof(::type, name), #type "." #name " moved"); \
  static_assert(same_signature<decltype(abi::type::name), decltype(::type::name)>,              \
                #type "." #name " has another signature")

CHECK_SLOT(CreateStatus);
CHECK_SLOT(GetErrorCode);
CHECK_SLOT(GetErrorMessage);
CHECK_SLOT(ReleaseStatus);
CHECK_SLOT(CreateCustomOpDomain);
CHECK_SLOT(CustomOpDomain_Add);
CHECK_SLOT(AddCustomOpDomain);
CHECK_SLOT(ReleaseCustomOpDomain);
CHECK_SLOT(CreateTensorWithDataAsOrtValue);
CHECK_SLOT(GetTensorMutableData);
CHECK_SLOT(GetTensorTypeAndShape);
CHECK_SLOT(ReleaseValue);
CHECK_SLOT(HasValue);
CHECK_SLOT(CreateMemoryInfo);
CHECK_SLOT(CreateCpuMemoryInfo);
CHECK_SLOT(ReleaseMemoryInfo);
CHECK_SLOT(CastTypeInfoToTensorInfo);
CHECK_SLOT(CreateTensorTypeAndShapeInfo);
CHECK_SLOT(SetTensorElementType);
CHECK_SLOT(SetDimensions);
CHECK_SLOT(GetTensorElementType);
CHECK_SLOT(GetDimensionsCount);
CHECK_SLOT(GetDimensions);
CHECK_SLOT(GetSymbolicDimensions);
CHECK_SLOT(GetTensorShapeElementCount);
CHECK_SLOT(ReleaseTypeInfo);
CHECK_SLOT(ReleaseTensorTypeAndShapeInfo);
CHECK_SLOT(SetSymbolicDimensions);
CHECK_SLOT(KernelInfoGetAttribute_float);
CHECK_SLOT(KernelInfoGetAttribute_int64);
CHECK_SLOT(KernelInfoGetAttribute_string);
CHECK_SLOT(KernelInfoGetAttributeArray_float);
CHECK_SLOT(KernelInfoGetAttributeArray_int64);
CHECK_SLOT(CopyKernelInfo);
CHECK_SLOT(ReleaseKernelInfo);
CHECK_SLOT(KernelInfo_GetInputCount);
CHECK_SLOT(KernelInfo_GetOutputCount);
CHECK_SLOT(KernelInfo_GetInputTypeInfo);
CHECK_SLOT(KernelInfo_GetOutputTypeInfo);
CHECK_SLOT(KernelInfo_GetNodeName);
CHECK_SLOT(KernelInfoGetConstantInput_tensor);
CHECK_SLOT(KernelContext_GetInputCount);
CHECK_SLOT(KernelContext_GetOutputCount);
CHECK_SLOT(KernelContext_GetInput);
CHECK_SLOT(KernelContext_GetOutput);
CHECK_SLOT(KernelContext_ParallelFor);
CHECK_SLOT(ShapeInferContext_GetInputCount);
CHECK_SLOT(ShapeInferContext_GetInputTypeShape);
CHECK_SLOT(ShapeInferContext_GetAttribute);
CHECK_SLOT(ShapeInferContext_SetOutputTypeShape);
CHECK_SLOT(ReadOpAttr);
CHECK_SLOT(CreateOpAttr);
CHECK_SLOT(ReleaseOpAttr);
CHECK_SLOT(CreateOp);
CHECK_SLOT(InvokeOp);
CHECK_SLOT(ReleaseOp);

static_assert(sizeof(abi::OrtApiBase) == sizeof(OrtApiBase));
CHECK_FIELD(OrtApiBase, GetApi);
CHECK_FIELD(OrtApiBase, GetVersionString);

static_assert(sizeof(abi::OrtCustomOp) == sizeof(OrtCustomOp), "OrtCustomOp has grown or shrunk");
static_assert(offsetof(abi::OrtCustomOp, version) == offsetof(OrtCustomOp, version));
CHECK_FIELD(OrtCustomOp, CreateKernel);
CHECK_FIELD(OrtCustomOp, GetName);
CHECK_FIELD(OrtCustomOp, GetExecutionProviderType);
CHECK_FIELD(OrtCustomOp, GetInputType);
CHECK_FIELD(OrtCustomOp, GetInputTypeCount);
CHECK_FIELD(OrtCustomOp, GetOutputType);
CHECK_FIELD(OrtCustomOp, GetOutputTypeCount);
CHECK_FIELD(OrtCustomOp, KernelCompute);
CHECK_FIELD(OrtCustomOp, KernelDestroy);
CHECK_FIELD(OrtCustomOp, GetInputCharacteristic);
CHECK_FIELD(OrtCustomOp, GetOutputCharacteristic);
CHECK_FIELD(OrtCustomOp, GetInputMemoryType);
CHECK_FIELD(OrtCustomOp, GetVariadicInputMinArity);
CHECK_FIELD(OrtCustomOp, GetVariadicInputHomogeneity);
CHECK_FIELD(OrtCustomOp, GetVariadicOutputMinArity);
CHECK_FIELD(OrtCustomOp, GetVariadicOutputHomogeneity);
CHECK_FIELD(OrtCustomOp, CreateKernelV2);
CHECK_FIELD(OrtCustomOp, KernelComputeV2);
CHECK_FIELD(OrtCustomOp, InferOutputShapeFn);
CHECK_FIELD(OrtCustomOp, GetStartVersion);
CHECK_FIELD(OrtCustomOp, GetEndVersion);
CHECK_FIELD(OrtCustomOp, GetMayInplace);
CHECK_FIELD(OrtCustomOp, ReleaseMayInplace);
CHECK_FIELD(OrtCustomOp, GetAliasMap);
CHECK_FIELD(OrtCustomOp, ReleaseAliasMap);

static_assert(same_value(abi::ElementType::Undefined, ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED));
static_assert(same_value(abi::ElementType::Float, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT));
static_assert(same_value(abi::ElementType::UInt8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8));
static_assert(same_value(abi::ElementType::Int8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8));
static_assert(same_value(abi::ElementType::UInt16, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16));
static_assert(same_value(abi::ElementType::Int16, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16));
static_assert(same_value(abi::ElementType::Int32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32));
static_assert(same_value(abi::ElementType::Int64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64));
static_assert(same_value(abi::ElementType::String, ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING));
static_assert(same_value(abi::ElementType::Bool, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL));
static_assert(same_value(abi::ElementType::Float16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16));
static_assert(same_value(abi::ElementType::Double, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE));
static_assert(same_value(abi::ElementType::UInt32, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32));
static_assert(same_value(abi::ElementType::UInt64, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64));
static_assert(same_value(abi::ElementType::BFloat16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16));
static_assert(same_value(abi::ErrorCode::Ok, ORT_OK));
static_assert(same_value(abi::ErrorCode::Fail, ORT_FAIL));
static_assert(same_value(abi::ErrorCode::InvalidArgument, ORT_INVALID_ARGUMENT));
static_assert(same_value(abi::ErrorCode::NotImplemented, ORT_NOT_IMPLEMENTED));
static_assert(same_value(abi::ErrorCode::InvalidGraph, ORT_INVALID_GRAPH));
static_assert(same_value(abi::Arity::Required, INPUT_OUTPUT_REQUIRED));
static_assert(same_value(abi::Arity::Optional, INPUT_OUTPUT_OPTIONAL));
static_assert(same_value(abi::Arity::Variadic, INPUT_OUTPUT_VARIADIC));
static_assert(same_value(abi::AttrType::Undefined, ORT_OP_ATTR_UNDEFINED));
static_assert(same_value(abi::AttrType::Int, ORT_OP_ATTR_INT));
static_assert(same_value(abi::AttrType::Ints, ORT_OP_ATTR_INTS));
static_assert(same_value(abi::AttrType::Float, ORT_OP_ATTR_FLOAT));
static_assert(same_value(abi::AttrType::Floats, ORT_OP_ATTR_FLOATS));
static_assert(same_value(abi::AttrType::String, ORT_OP_ATTR_STRING));
static_assert(same_value(abi::AttrType::Strings, ORT_OP_ATTR_STRINGS));
static_assert(same_value(abi::MemType::Default, OrtMemTypeDefault));
static_assert(same_value(abi::AllocatorType::Device, OrtDeviceAllocator));
static_assert(same_value(abi::AllocatorType::Arena, OrtArenaAllocator));

static_assert(abi::kApiVersion <= ORT_API_VERSION, "the official headers are too old to compare with");
