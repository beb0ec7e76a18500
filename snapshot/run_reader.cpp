#include "snapshot/run_reader.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>
#include <optional>
#include <tuple>

#include "platform/error.h"
#include "snapshot/repository/pack_codec.h"
#include "snapshot/repository/run_cut.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kGapLimit = 64U << 10;  // bytes read for nothing rather than with another read

std::uint64_t round_down(std::uint64_t value, std::uint64_t unit) {
    return value / unit * unit;
}
std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

Error damaged_range(const std::string& object, std::uint32_t segment, const std::string& what, const std::string& file, std::uint64_t begin,
                    std::uint64_t length) {
    return Error::damaged(object,
                          "segment " + std::to_string(segment) + ": " + what + "; it holds bytes " + std::to_string(begin) + " to " +
                              std::to_string(begin + length - 1) + " of " + file,
                          "run `nodesnap verify --data` to see what else is damaged, and take another backup's copy of this file");
}

Error damaged_piece(const PlannedRead& read, const Piece& piece, const std::string& what, const FileNamer& name) {
    return damaged_range(read.pack->object(), piece.segment, what, name(piece.file), piece.file_offset, piece.length);
}

// The blocks from the one that holds byte `from` to the one that holds byte `to - 1`.
void verify_blocks(const PlannedRead& read, const Piece& piece, std::uint32_t first, std::uint32_t end, std::span<const std::byte> plain,
                   std::uint64_t plain_begin, const Hasher& hasher, const FileNamer& name) {
    const auto& index = read.pack->index();
    const auto blocks = index.blocks(piece.segment);
    const std::uint64_t length = index.segment(piece.segment).plain_length;
    for (std::uint32_t block = first; block < end; ++block) {
        const std::uint64_t begin = std::uint64_t{block} * kChecksumBlock;
        const std::uint64_t bytes = std::min<std::uint64_t>(kChecksumBlock, length - begin);
        if (block >= blocks.size() || hasher(plain.subspan(begin - plain_begin, bytes)) != blocks[block]) {
            throw damaged_piece(read, piece, "checksum mismatch in block " + std::to_string(block), name);
        }
    }
}

std::uint32_t first_block(const Piece& piece) {
    return piece.from / kChecksumBlock;
}
std::uint32_t end_block(const Piece& piece) {
    return (piece.from + piece.length - 1) / kChecksumBlock + 1;
}

// Where a block of the piece's segment, which isn't encoded, lies in the segment.
struct BlockRange {
    BlockRange(const PlannedRead& read, const Piece& piece, std::uint32_t block)
        : begin(std::uint64_t{block} * kChecksumBlock),
          length(std::min<std::uint64_t>(kChecksumBlock, read.pack->index().segment(piece.segment).plain_length - begin)) {}
    std::uint64_t begin;
    std::uint64_t length;
};

void tell_lost(const Piece& piece, const BlockRange& block, const LossSink& lost) {
    const auto begin = std::max<std::uint64_t>(block.begin, piece.from);
    const auto end = std::min<std::uint64_t>(block.begin + block.length, piece.from + std::uint64_t{piece.length});
    lost(piece.file, piece.file_offset + (begin - piece.from), end - begin);
}

// Zeros where it can't be read.
void read_or_zero(const PlannedRead& read, std::span<std::byte> data, std::uint64_t begin, std::uint64_t length) {
    const auto bytes = data.subspan(begin - read.offset, round_up(length, kPackAlignment));
    try {
        read.pack->reader().read(bytes, begin);
    } catch (const Error& error) {
        if (!is_loss(error)) {
            throw;
        }
        std::fill(bytes.begin(), bytes.end(), std::byte{0});
    }
}

struct AlignedDelete {
    void operator()(std::byte* memory) const { operator delete[](memory, std::align_val_t{kPackAlignment}); }
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedDelete>;

AlignedBytes aligned_buffer() {
    return AlignedBytes(new (std::align_val_t{kPackAlignment}) std::byte[kReadLimit]);
}

}  // namespace

bool is_loss(const Error& error) {
    return error.status() == ExitStatus::kDamaged || is_media_error(error.error_number());
}

bool ReadPlan::full() const {
    return index_bytes_ >= limits_.index_bytes || packs_.size() >= limits_.packs || pieces_.size() + lost_.size() >= limits_.pieces;
}

std::uint32_t ReadPlan::pack_number(const PackId& id) {
    if (const auto found = numbers_.find(id); found != numbers_.end()) {
        return found->second;
    }
    packs_.push_back(repository_.packs().get(layout::PackKind::kData, id));
    index_bytes_ += packs_.back()->index().memory_bytes();
    const auto number = static_cast<std::uint32_t>(packs_.size() - 1);
    numbers_.emplace(id, number);
    return number;
}

void ReadPlan::add(const Run& run, std::uint64_t from, std::uint64_t length, std::uint32_t file, const FileNamer& name) {
    const auto pieces = pieces_.size();
    const auto bytes = bytes_;
    try {
        add_pieces(run, from, length, file, name);
    } catch (...) {
        pieces_.resize(pieces);
        bytes_ = bytes;
        throw;
    }
}

void ReadPlan::add_lost(std::uint64_t offset, std::uint64_t length, std::uint32_t file) {
    for (std::uint64_t done = 0; done < length;) {
        const auto part = static_cast<std::uint32_t>(std::min<std::uint64_t>(length - done, kReadLimit));
        lost_.push_back({nullptr, 0, part, {Piece{0, 0, part, file, offset + done}}});
        done += part;
    }
    bytes_ += length;
}

void ReadPlan::add_pieces(const Run& run, std::uint64_t from, std::uint64_t length, std::uint32_t file, const FileNamer& name) {
    const auto pack = pack_number(run.pack);
    const auto& index = packs_[pack]->index();
    std::uint64_t at = run.offset + from;
    const auto broken = [&](std::uint32_t segment, const char* what) {
        return damaged_range(packs_[pack]->object(), segment, what, name(file), run.offset + from, length);
    };
    for_each_segment(index, run, from, length, broken, [&](const SegmentRange& range) {
        const auto segment = index.segment(range.number);
        const Piece piece{range.number, range.from, range.length, file, at};
        auto begin = segment.offset;
        auto end = segment.offset + segment.stored_length;
        if (segment.codec == Codec::kNone) {
            end = std::min(end, segment.offset + std::uint64_t{end_block(piece)} * kChecksumBlock);
            begin += std::uint64_t{first_block(piece)} * kChecksumBlock;
        }
        pieces_.push_back({pack, begin, end, piece});
        at += piece.length;
        bytes_ += piece.length;
    });
}

std::vector<PlannedRead> ReadPlan::finish() {
    std::sort(pieces_.begin(), pieces_.end(), [](const Placed& a, const Placed& b) {
        return std::tie(a.pack, a.begin, a.piece.segment, a.piece.from) < std::tie(b.pack, b.begin, b.piece.segment, b.piece.from);
    });
    std::vector<PlannedRead> reads;
    std::uint32_t pack = 0;
    for (const auto& placed : pieces_) {
        const auto end = round_up(placed.end, kPackAlignment);
        const bool joins = !reads.empty() && pack == placed.pack && placed.begin <= reads.back().offset + reads.back().length + kGapLimit &&
                           end <= reads.back().offset + kReadLimit;
        if (!joins) {
            reads.push_back({packs_[placed.pack], round_down(placed.begin, kPackAlignment), 0, {}});
            pack = placed.pack;
        }
        auto& read = reads.back();
        read.length = std::max(read.length, static_cast<std::uint32_t>(end - read.offset));
        read.pieces.push_back(placed.piece);
    }
    std::move(lost_.begin(), lost_.end(), std::back_inserter(reads));
    lost_.clear();
    pieces_.clear();
    packs_.clear();
    numbers_.clear();
    index_bytes_ = 0;
    bytes_ = 0;
    return reads;
}

void verify_read(const PlannedRead& read, std::span<const std::byte> data, const Hasher& hasher, const FileNamer& name) {
    const auto& index = read.pack->index();
    std::uint32_t segment_number = 0;
    std::uint32_t verified = 0;  // blocks of that segment
    bool any = false;
    for (const auto& piece : read.pieces) {
        if (!any || segment_number != piece.segment) {
            any = true;
            segment_number = piece.segment;
            verified = 0;
        }
        const auto segment = index.segment(piece.segment);
        if (segment.codec != Codec::kNone) {
            if (verified == 0 &&
                hasher(data.subspan(segment.offset - read.offset, segment.stored_length)) != index.stored_checksum(piece.segment)) {
                throw damaged_piece(read, piece, "checksum mismatch of the stored bytes", name);
            }
            verified = 1;
            continue;
        }
        const auto first = std::max(verified, first_block(piece));
        const auto end = end_block(piece);
        if (first < end) {
            const auto plain_begin = std::uint64_t{first} * kChecksumBlock;
            verify_blocks(read, piece, first, end, data.subspan(segment.offset + plain_begin - read.offset), plain_begin, hasher, name);
            verified = end;
        }
    }
}

void salvage_read(const PlannedRead& read, std::span<std::byte> data, const Hasher& hasher, const LossSink& lost) {
    const auto& index = read.pack->index();
    std::fill(data.begin(), data.end(), std::byte{0});
    for (const auto& piece : read.pieces) {
        const auto segment = index.segment(piece.segment);
        if (segment.codec != Codec::kNone) {
            read_or_zero(read, data, segment.offset, segment.stored_length);
            continue;
        }
        const auto checksums = index.blocks(piece.segment);
        for (auto number = first_block(piece); number < end_block(piece); ++number) {
            const BlockRange block(read, piece, number);
            read_or_zero(read, data, segment.offset + block.begin, block.length);
            const auto bytes = data.subspan(segment.offset + block.begin - read.offset, block.length);
            if (number >= checksums.size() || hasher(bytes) != checksums[number]) {
                std::fill(bytes.begin(), bytes.end(), std::byte{0});
                tell_lost(piece, block, lost);
            }
        }
    }
}

namespace {

std::span<const std::byte> decoded(const PlannedRead& read, const Piece& piece, std::span<const std::byte> data,
                                   std::vector<std::byte>& scratch, const Hasher& hasher, const FileNamer& name) {
    const auto segment = read.pack->index().segment(piece.segment);
    scratch.resize(segment.plain_length);
    if (!decompress(data.subspan(segment.offset - read.offset, segment.stored_length), scratch)) {
        throw damaged_piece(read, piece, "it can't be decompressed", name);
    }
    verify_blocks(read, piece, first_block(piece), end_block(piece),
                  std::span(scratch).subspan(std::size_t{first_block(piece)} * kChecksumBlock),
                  std::uint64_t{first_block(piece)} * kChecksumBlock, hasher, name);
    return std::span(scratch).subspan(piece.from, piece.length);
}

}  // namespace

std::span<const std::byte> piece_data(const PlannedRead& read, const Piece& piece, std::span<const std::byte> data,
                                      std::vector<std::byte>& scratch, const Hasher& hasher, const FileNamer& name, const LossSink& lost) {
    const auto segment = read.pack->index().segment(piece.segment);
    if (segment.codec == Codec::kNone) {
        return data.subspan(segment.offset - read.offset + piece.from, piece.length);
    }
    try {
        return decoded(read, piece, data, scratch, hasher, name);
    } catch (const Error& error) {
        if (!lost || !is_loss(error)) {
            throw;
        }
        scratch.assign(piece.length, std::byte{0});
        lost(piece.file, piece.file_offset, piece.length);
        return scratch;
    }
}

struct MapReader::Impl {
    Impl(const Repository& of, Inode which, std::string called, LossSink sink)
        : repository(of), inode(std::move(which)), name(std::move(called)), lost(std::move(sink)) {}

    const Repository& repository;
    Inode inode;
    std::string name;
    LossSink lost;
    AlignedBytes buffer = aligned_buffer();
    std::vector<std::byte> scratch;
    std::optional<MapCursor> cursor;
    Run run;  // the one that the cursor gave last
    bool have_run = false;
    std::uint64_t position = 0;  // no run before it is needed any more, as far as the cursor knows

    void seek(std::uint64_t offset);
};

namespace {

void fetch(ReadPlan& plan, std::span<std::byte> into, std::uint64_t into_offset, std::byte* buffer, std::vector<std::byte>& scratch,
           const Hasher& hasher, const std::string& file_name, const LossSink& lost = {}) {
    const FileNamer name = [&file_name](std::uint32_t) { return file_name; };
    for (const auto& read : plan.finish()) {
        const std::span<std::byte> data(buffer, read.length);
        try {
            read.pack->reader().read(data, read.offset);
            verify_read(read, data, hasher, name);
        } catch (const Error& error) {
            if (!lost || !is_loss(error)) {
                throw;
            }
            salvage_read(read, data, hasher, lost);
        }
        for (const auto& piece : read.pieces) {
            const auto bytes = piece_data(read, piece, data, scratch, hasher, name, lost);
            std::memcpy(into.data() + (piece.file_offset - into_offset), bytes.data(), bytes.size());
        }
    }
}

}  // namespace

void MapReader::Impl::seek(std::uint64_t offset) {
    if (cursor && offset == position) {
        return;
    }
    cursor.emplace(repository.nodes(), inode, offset);
    have_run = cursor->next(run);
    position = offset;
}

MapReader::MapReader(const Repository& repository, const Inode& inode, std::string name, LossSink lost)
    : impl_(std::make_unique<Impl>(repository, inode, std::move(name), std::move(lost))) {}
MapReader::~MapReader() = default;

void MapReader::read(std::span<std::byte> into, std::uint64_t offset) {
    std::fill(into.begin(), into.end(), std::byte{0});
    const auto end = offset + into.size();
    if (!impl_->inode.content.empty()) {
        const auto& content = impl_->inode.content;
        if (offset < content.size()) {
            std::memcpy(into.data(), content.data() + offset, std::min<std::uint64_t>(content.size() - offset, into.size()));
        }
        return;
    }
    impl_->seek(offset);
    ReadPlan plan(impl_->repository);
    const FileNamer name = [this](std::uint32_t) { return impl_->name; };
    const auto fetch_planned = [&] {
        fetch(plan, into, offset, impl_->buffer.get(), impl_->scratch, impl_->repository.hasher(), impl_->name, impl_->lost);
    };
    while (impl_->have_run && impl_->run.offset < end) {
        const auto& run = impl_->run;
        const auto begin = std::max(offset, run.offset);
        const auto stop = std::min(end, run.end());
        if (run.flags == Run::kNone && begin < stop) {
            try {
                plan.add(run, begin - run.offset, stop - begin, 0, name);
            } catch (const Error& error) {
                if (!impl_->lost || !is_loss(error)) {
                    throw;
                }
                impl_->lost(0, begin, stop - begin);  // the zeros are there
            }
        }
        if (run.end() > end) {
            break;
        }
        impl_->have_run = impl_->cursor->next(impl_->run);
        if (plan.full()) {
            fetch_planned();
        }
    }
    fetch_planned();
    impl_->position = end;
}

void read_runs(const Repository& repository, std::span<const Run> runs, std::span<std::byte> into, const std::string& name) {
    std::fill(into.begin(), into.end(), std::byte{0});
    const auto buffer = aligned_buffer();
    std::vector<std::byte> scratch;
    ReadPlan plan(repository);
    const FileNamer namer = [&name](std::uint32_t) { return name; };
    for (const auto& run : runs) {
        if (run.flags != Run::kNone || run.offset >= into.size()) {
            continue;
        }
        plan.add(run, 0, std::min<std::uint64_t>(run.length, into.size() - run.offset), 0, namer);
        if (plan.full()) {
            fetch(plan, into, 0, buffer.get(), scratch, repository.hasher(), name);
        }
    }
    fetch(plan, into, 0, buffer.get(), scratch, repository.hasher(), name);
}

}  // namespace nodesnap
