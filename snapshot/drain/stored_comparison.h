// StoredComparison: which of the bytes that were just read of a file an earlier backup has stored, where nothing else tells what has
// changed.
//
// Blocks are compared by their stored checksums; of a block that differs, or of which the file has only a part by now, the stored bytes
// are read and compared page by page, so that a changed page costs a page. What can't be read from the repository counts as changed. One
// thread. Memory: a block.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "snapshot/repository/repository.h"

namespace nodesnap {

class StoredComparison {
public:
    // `stored`: the earlier backup's record of the file. `distrusted`: packs whose content counts as changed, in ascending order. All must
    // outlive this. `by_blocks`: no stored data is read; a block that differs counts as changed as a whole.
    StoredComparison(const Repository& repository, const Inode& stored, std::span<const PackId> distrusted = {}, bool by_blocks = false)
        : repository_(repository), stored_(stored), distrusted_(distrusted), by_blocks_(by_blocks) {}

    struct Piece {
        std::uint32_t from = 0;  // in the data
        std::uint32_t length = 0;
        std::optional<Run> stored;  // says the same of this range of the file; none: it is to be stored
    };
    // In order, without gaps; neighbours that are to be stored are one piece. `data` is what the file holds at `offset`, up to 1 MiB.
    std::vector<Piece> compare(std::span<const std::byte> data, std::uint64_t offset);

private:
    class Pass;
    const Repository& repository_;
    const Inode& stored_;
    const std::span<const PackId> distrusted_;
    const bool by_blocks_;
};

}  // namespace nodesnap
