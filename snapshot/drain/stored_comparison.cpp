#include "snapshot/drain/stored_comparison.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "platform/error.h"
#include "snapshot/repository/run_cut.h"

namespace nodesnap {
namespace {

constexpr std::uint32_t kPage = 4096;

Error broken_run(std::uint32_t, const char* what) {
    return Error::damaged("a stored file map", what);
}

struct AlignedDelete {
    void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{kPage}); }
};
using Block = std::unique_ptr<std::byte, AlignedDelete>;

Block new_block() {
    return Block(static_cast<std::byte*>(::operator new (kChecksumBlock, std::align_val_t{kPage})));
}

}  // namespace

// One call of compare().
class StoredComparison::Pass {
public:
    Pass(const Repository& repository, std::span<const PackId> distrusted, bool by_blocks, std::span<const std::byte> data,
         std::uint64_t offset)
        : repository_(repository), distrusted_(distrusted), by_blocks_(by_blocks), data_(data), offset_(offset) {}

    std::vector<Piece> run(const Inode& stored) {
        MapCursor map(repository_.nodes(), stored, offset_);
        for (Run run; map.next(run) && run.offset < end();) {
            const std::uint64_t begin = std::max(run.offset, offset_);
            add_changed(begin);
            if (run.flags == Run::kNone && !std::binary_search(distrusted_.begin(), distrusted_.end(), run.pack)) {
                compare_run(run, begin, std::min(run.end(), end()));
            }
        }
        add_changed(end());
        return std::move(pieces_);
    }

private:
    std::uint64_t end() const { return offset_ + data_.size(); }
    std::uint64_t position() const { return offset_ + done_; }
    std::span<const std::byte> data_at(std::uint64_t position, std::uint64_t length) const {
        return data_.subspan(position - offset_, length);
    }

    void compare_run(const Run& run, std::uint64_t begin, std::uint64_t stop) {
        try {
            const auto pack = repository_.packs().get(layout::PackKind::kData, run.pack);
            std::uint64_t at = begin;
            for_each_segment(pack->index(), run, begin - run.offset, stop - begin, broken_run, [&](const SegmentRange& range) {
                compare_segment(*pack, run, range, at);
                at += range.length;
            });
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged && error.error_number() == 0) {
                throw;
            }
        }
        add_changed(stop);  // what couldn't be compared
    }

    void compare_segment(const PackReader& pack, const Run& run, const SegmentRange& range, std::uint64_t at) {
        const Segment segment = pack.index().segment(range.number);
        const std::uint32_t stop = range.from + range.length;
        for (std::uint32_t from = range.from; from < stop;) {
            const std::uint32_t block = from / kChecksumBlock;
            const std::uint32_t block_begin = block * kChecksumBlock;
            const std::uint32_t block_end = std::min(block_begin + kChecksumBlock, segment.plain_length);
            const std::uint32_t to = std::min(block_end, stop);
            const std::uint64_t here = at + (from - range.from);
            const bool whole = from == block_begin && to == block_end;
            if (whole && repository_.hasher()(data_at(here, to - from)) == pack.index().blocks(range.number)[block]) {
                add_same(run, here, to - from);
            } else if (!by_blocks_ && segment.codec == Codec::kNone && load(pack, range.number, block_begin, block_end)) {
                compare_pages(run, here, {block_.get() + (from - block_begin), to - from});
            }
            add_changed(here + (to - from));
            from = to;
        }
    }

    bool load(const PackReader& pack, std::uint32_t number, std::uint32_t block_begin, std::uint32_t block_end) {
        if (!block_) {
            block_ = new_block();
        }
        const std::uint32_t length = block_end - block_begin;
        const std::uint32_t rounded = (length + kPage - 1) / kPage * kPage;
        pack.read_stored({block_.get(), rounded}, pack.index().segment(number).offset + block_begin);
        return repository_.hasher()(std::span(block_.get(), length)) == pack.index().blocks(number)[block_begin / kChecksumBlock];
    }

    void compare_pages(const Run& run, std::uint64_t at, std::span<const std::byte> stored) {
        for (std::size_t from = 0; from < stored.size();) {
            // Pages of the file, so that what is stored again begins at a page's border.
            const std::uint64_t border = ((at + from) / kPage + 1) * kPage;
            const std::size_t length = std::min<std::uint64_t>(border - (at + from), stored.size() - from);
            if (std::memcmp(data_at(at + from, length).data(), stored.data() + from, length) == 0) {
                add_same(run, at + from, length);
            } else {
                add_changed(at + from + length);
            }
            from += length;
        }
    }

    void add_same(const Run& run, std::uint64_t at, std::uint64_t length) {
        const Run part = part_of(run, at - run.offset, length, repository_.packs());
        if (!pieces_.empty() && pieces_.back().stored && same_run_ == run.offset) {
            Piece& last = pieces_.back();
            last.length += static_cast<std::uint32_t>(length);
            last.stored = part_of(run, last.stored->offset - run.offset, last.length, repository_.packs());
        } else {
            pieces_.push_back({static_cast<std::uint32_t>(done_), static_cast<std::uint32_t>(length), part});
        }
        same_run_ = run.offset;
        done_ += length;
    }

    // Up to `to`, if that isn't behind already.
    void add_changed(std::uint64_t to) {
        if (to <= position()) {
            return;
        }
        const auto length = static_cast<std::uint32_t>(to - position());
        if (!pieces_.empty() && !pieces_.back().stored) {
            pieces_.back().length += length;
        } else {
            pieces_.push_back({static_cast<std::uint32_t>(done_), length, std::nullopt});
        }
        done_ += length;
    }

    const Repository& repository_;
    const std::span<const PackId> distrusted_;
    const bool by_blocks_;
    const std::span<const std::byte> data_;
    const std::uint64_t offset_;
    std::vector<Piece> pieces_;
    std::uint64_t done_ = 0;      // bytes that pieces_ covers
    std::uint64_t same_run_ = 0;  // the run that the last piece with a stored one is of
    Block block_;
};

std::vector<StoredComparison::Piece> StoredComparison::compare(std::span<const std::byte> data, std::uint64_t offset) {
    return Pass(repository_, distrusted_, by_blocks_, data, offset).run(stored_);
}

}  // namespace nodesnap
