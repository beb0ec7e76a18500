#include "snapshot/backend/lvm_blocks.h"

#include <cstdint>
#include <functional>
#include <utility>

#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/lvm_thin.h"
#include "snapshot/backend/lvm_metadata.h"

namespace nodesnap {
namespace {

// With the pool's metadata reserved, and from the beginning where it fails: the pool writes beside what is reserved, and the first block is
// read in between.
void compare(const lvm::Volume& pool, const lvm::Volume& earlier, const lvm::Volume& now,
             const std::function<void(const lvm::BlockRange&, std::uint64_t block_bytes)>& take, const std::function<void()>& begin) {
    constexpr int kAttempts = 3;
    ReservedMetadata reserved(pool, earlier);
    for (int attempt = 1;; ++attempt) {
        begin();
        lvm::ThinDeltaParser parser(earlier.thin_id, now.thin_id, [&](const lvm::BlockRange& range) { take(range, parser.block_bytes()); });
        try {
            lvm::compare_thin(pool, parser);
            break;
        } catch (const Error&) {
            throw_if_interrupted();
            if (attempt == kAttempts) {
                throw;
            }
        }
    }
    reserved.release();
}

}  // namespace

std::shared_ptr<const SameBlocks> common_blocks(const lvm::Volume& pool, const lvm::Volume& earlier, const lvm::Volume& now) {
    std::shared_ptr<SameBlocks> blocks;
    compare(
        pool, earlier, now,
        [&](const lvm::BlockRange& range, std::uint64_t block_bytes) {
            if (!blocks) {
                blocks = std::make_shared<SameBlocks>(block_bytes, now.bytes);
            }
            if (range.kind == lvm::BlockRange::Kind::kSame) {
                blocks->add(range.begin, range.length);
            }
        },
        [&] { blocks.reset(); });
    return blocks ? std::move(blocks) : std::make_shared<SameBlocks>(now.bytes, now.bytes);  // they have no blocks
}

std::uint64_t bytes_beside(const lvm::Volume& pool, const lvm::Volume& snapshot, const lvm::Volume& origin) {
    std::uint64_t bytes = 0;
    compare(
        pool, snapshot, origin,
        [&](const lvm::BlockRange& range, std::uint64_t block_bytes) {
            const bool own = range.kind == lvm::BlockRange::Kind::kDifferent || range.kind == lvm::BlockRange::Kind::kLeftOnly;
            bytes += own ? range.length * block_bytes : 0;
        },
        [&] { bytes = 0; });
    return bytes;
}

}  // namespace nodesnap
