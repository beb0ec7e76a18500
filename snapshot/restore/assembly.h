// RestoreAssembly: memory in which a window is put together that comes from very many small pieces, as pages rewritten in place over many
// backups leave them. The pieces arrive in the order of their packs; written as they come they would cost a write each, and leave a file in
// as many extents.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "snapshot/restore/large.h"

namespace nodesnap {

// Room for one assembly, at a multiple of 4096; its pages are touched as they are needed. Used by one window at a time.
class AssemblyRoom {
public:
    explicit AssemblyRoom(std::size_t bytes);
    std::span<std::byte> span() const { return {memory_.get(), bytes_}; }

private:
    struct Free {
        void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{kPackAlignment}); }
    };
    std::size_t bytes_;
    std::unique_ptr<std::byte, Free> memory_;
};

class RestoreAssembly {
public:
    // Data of the file without a hole between, and where it stands in the memory; both begin at the same place of a block of 4096.
    struct Stretch {
        std::uint64_t offset = 0;  // in the file
        std::uint64_t length = 0;
        std::size_t at = 0;  // in the memory
    };

    // Only for a window that gains by it: nullopt for large pieces, and for pieces that lie apart from each other in the file. All of the
    // window's data must be put here then.
    static std::optional<RestoreAssembly> of(const RestoreWindow& window);

    // What it needs; the first put() must come after use().
    std::size_t memory_bytes() const { return stretches_.back().at + stretches_.back().length; }
    void use(std::span<std::byte> memory) { memory_ = memory; }
    void put(std::uint64_t offset, std::span<const std::byte> bytes);
    const std::vector<Stretch>& stretches() const { return stretches_; }
    std::span<const std::byte> bytes(const Stretch& stretch) const { return memory_.subspan(stretch.at, stretch.length); }

private:
    RestoreAssembly() = default;
    std::span<std::byte> memory_;
    std::vector<Stretch> stretches_;  // in order of offsets
};

}  // namespace nodesnap
