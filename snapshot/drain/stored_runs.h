// StoredRuns: what a file of an earlier backup has, as runs of another file, or of the same one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "snapshot/repository/pack.h"
#include "snapshot/repository/records.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {

class StoredRuns {
public:
    using Take = std::function<void(const Run&)>;
    using Leave = std::function<void(std::uint64_t begin, std::uint64_t end)>;

    // `record` is the earlier file's, with runs. The two others must stay as long as this.
    StoredRuns(NodeReader& nodes, PackCache& packs, Inode record);

    // Of [begin, end) of a file that has there what the earlier one has from `from` on: tells in order what is taken over, and what is to
    // be read, since there is no data stored of it. What is left begins with a page (kPackAlignment), if `begin` and `from` do, and ends
    // with one, or at `end`; `size` is where the file ends. Cheap where one call goes on from the one before. Throws Error where the map or
    // a footer can't be read; what was told until then holds.
    void copy(std::uint64_t begin, std::uint64_t end, std::uint64_t from, std::uint64_t size, const Take& take, const Leave& leave);

private:
    bool seek(std::uint64_t offset);
    bool goes_on(std::uint64_t offset, std::uint64_t end) const;
    void advance();
    void read_ahead();

    NodeReader& nodes_;
    PackCache& packs_;
    const Inode record_;
    std::optional<MapCursor> map_;
    Run run_;
    std::optional<Run> ahead_;
    bool ended_ = false;
};

}  // namespace nodesnap
