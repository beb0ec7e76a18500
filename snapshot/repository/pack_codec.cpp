#include "snapshot/repository/pack_codec.h"

#include <zstd.h>

#include <new>
#include <string>

#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr int kLevel = 1;

struct FreeCompression {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};
struct FreeDecompression {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

}  // namespace

struct Compressor::Impl {
    std::unique_ptr<ZSTD_CCtx, FreeCompression> context{ZSTD_createCCtx()};
};

std::size_t compress_bound(std::size_t plain_bytes) {
    return ZSTD_compressBound(plain_bytes);
}

Compressor::Compressor() : impl_(std::make_unique<Impl>()) {
    if (!impl_->context) {
        throw std::bad_alloc();
    }
}

Compressor::~Compressor() = default;

std::size_t Compressor::compress(std::span<const std::byte> plain, std::span<std::byte> into) {
    const std::size_t result = ZSTD_compressCCtx(impl_->context.get(), into.data(), into.size(), plain.data(), plain.size(), kLevel);
    if (ZSTD_isError(result) != 0) {
        throw Error::failed(std::string("cannot compress metadata: ") + ZSTD_getErrorName(result));
    }
    return result;
}

bool decompress(std::span<const std::byte> stored, std::span<std::byte> into) {
    // One context per thread: readers work in parallel, and making one costs more than a node's decompression.
    thread_local const std::unique_ptr<ZSTD_DCtx, FreeDecompression> kContext(ZSTD_createDCtx());
    if (!kContext) {
        throw std::bad_alloc();
    }
    // A hostile frame may claim any size: output is bounded by `into`, and memory too, since nothing is decoded as a stream.
    const std::size_t result = ZSTD_decompressDCtx(kContext.get(), into.data(), into.size(), stored.data(), stored.size());
    return ZSTD_isError(result) == 0 && result == into.size();
}

}  // namespace nodesnap
