// Compressing what packs and manifests hold. zstd, level 1: metadata is written once and read seldom.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace nodesnap {

std::size_t compress_bound(std::size_t plain_bytes);

// Keeps its working memory (under 1 MiB for inputs of up to 64 KiB) from one call to the next. One thread.
class Compressor {
public:
    Compressor();
    ~Compressor();
    // Bytes written to `into`, which must hold compress_bound(plain.size()).
    std::size_t compress(std::span<const std::byte> plain, std::span<std::byte> into);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// Exactly `into.size()` bytes must come out; false otherwise. Never writes beyond. Any thread.
bool decompress(std::span<const std::byte> stored, std::span<std::byte> into);

}  // namespace nodesnap
