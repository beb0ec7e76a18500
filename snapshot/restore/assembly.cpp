#include "snapshot/restore/assembly.h"

#include <algorithm>
#include <cstring>

#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kSmallPart = 64U << 10;  // on average: larger ones are written from where they landed
constexpr std::size_t kPartsOfStretch = 4;       // on average, at least

}  // namespace

AssemblyRoom::AssemblyRoom(std::size_t bytes)
    : bytes_(bytes), memory_(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kPackAlignment}))) {}

std::optional<RestoreAssembly> RestoreAssembly::of(const RestoreWindow& window) {
    RestoreAssembly assembly;
    std::size_t parts = 0;
    std::uint64_t bytes = 0;
    std::size_t end = 0;
    for (const RunPart& part : window.parts) {
        if (part.run.flags != Run::kNone) {
            continue;
        }
        auto& stretches = assembly.stretches_;
        if (stretches.empty() || stretches.back().offset + stretches.back().length != part.begin()) {
            const std::size_t block = (end + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
            stretches.push_back({part.begin(), 0, block + part.begin() % kPackAlignment});
        }
        Stretch& last = stretches.back();
        last.length += part.length;
        end = last.at + last.length;
        bytes += part.length;
        ++parts;
    }
    const bool gains = parts != 0 && bytes / parts < kSmallPart && parts / assembly.stretches_.size() >= kPartsOfStretch;
    return gains ? std::optional(std::move(assembly)) : std::nullopt;
}

void RestoreAssembly::put(std::uint64_t offset, std::span<const std::byte> bytes) {
    auto next = std::upper_bound(stretches_.begin(), stretches_.end(), offset,
                                 [](std::uint64_t value, const Stretch& stretch) { return value < stretch.offset; });
    if (next == stretches_.begin() || offset + bytes.size() > std::prev(next)->offset + std::prev(next)->length) {
        throw Error::failed("internal error: restored data that no part asked for", "please report this");
    }
    const Stretch& stretch = *std::prev(next);
    std::memcpy(memory_.data() + stretch.at + (offset - stretch.offset), bytes.data(), bytes.size());
}

}  // namespace nodesnap
