#include "snapshot/repository/pack_footer.h"

#include <algorithm>
#include <cstring>

#include "metadata_generated.h"
#include "snapshot/repository/pack_codec.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {
namespace {

static_assert(sizeof(Checksum) == sizeof(format::Checksum));
static_assert(sizeof(PackId) == sizeof(format::PackId));

template <typename T>
flatbuffers::Offset<flatbuffers::Vector<T>> vector_unless_default(flatbuffers::FlatBufferBuilder& builder, const std::vector<T>& values) {
    const bool all_default = std::all_of(values.begin(), values.end(), [](T value) { return value == 0; });
    return all_default ? 0 : builder.CreateVector(values);
}

flatbuffers::Offset<flatbuffers::Vector<const format::Checksum*>> checksums(flatbuffers::FlatBufferBuilder& builder,
                                                                            const std::vector<Checksum>& values) {
    if (values.empty()) {
        return 0;
    }
    return builder.CreateVectorOfStructs(reinterpret_cast<const format::Checksum*>(values.data()), values.size());
}

// The Verifier checks where a vector's length lies, but not that elements of 8 bytes are aligned.
template <typename T>
bool aligned_elements(const flatbuffers::Vector<T>* vector) {
    return aligned<T>(vector->Data());
}
bool aligned_elements(const flatbuffers::Vector<const format::Checksum*>* vector) {
    return aligned<Checksum>(vector->Data());
}

// An absent vector holds the default everywhere.
template <typename T>
bool has_size(const flatbuffers::Vector<T>* vector, std::size_t size, bool may_be_absent) {
    return vector == nullptr ? may_be_absent : vector->size() == size && aligned_elements(vector);
}

template <typename T>
T at(const flatbuffers::Vector<T>* vector, std::uint32_t i) {
    return vector == nullptr ? T{} : vector->Get(i);
}

Segment segment_at(const format::Footer& footer, std::uint32_t i) {
    Segment segment;
    segment.offset = footer.offsets()->Get(i);
    segment.second_offset = at(footer.second_offsets(), i);
    segment.stored_length = footer.stored_lengths()->Get(i);
    segment.plain_length = footer.plain_lengths()->Get(i);
    segment.codec = static_cast<Codec>(at(footer.codecs(), i));
    return segment;
}

// What no writer may have written of one segment; nullptr if it is sound. Advances the ends of what the copies take.
const char* flaw_of(const Segment& segment, layout::PackKind kind, std::uint64_t& end, std::uint64_t& second_end,
                    std::uint64_t segments_end) {
    if (segment.plain_length == 0) {
        return segment == Segment{} ? nullptr : "a dropped segment has content";
    }
    const bool nodes = kind == layout::PackKind::kNodes;
    if (segment.plain_length > (nodes ? kNodeLimit : kSegmentLimit) || segment.stored_length == 0 ||
        segment.stored_length > compress_bound(segment.plain_length)) {
        return "a segment's length is out of bounds";
    }
    if (segment.codec > Codec::kZstd || (segment.codec == Codec::kNone && segment.stored_length != segment.plain_length)) {
        return "a segment's codec is unknown, or its lengths differ";
    }
    const std::uint64_t alignment = nodes ? kNodeAlignment : kPackAlignment;
    if (segment.offset < end || segment.offset % alignment != 0 || segment.offset > segments_end ||
        segment.stored_length > segments_end - segment.offset) {
        return "a segment's offset is out of bounds";
    }
    end = segment.offset + segment.stored_length;
    if (!nodes) {
        return segment.second_offset == 0 ? nullptr : "a data segment has a second copy";
    }
    if (segment.second_offset < second_end || segment.second_offset % alignment != 0 || segment.second_offset > segments_end ||
        segment.stored_length > segments_end - segment.second_offset) {
        return "a second copy's offset is out of bounds";
    }
    second_end = segment.second_offset + segment.stored_length;
    return nullptr;
}

bool lists_agree(const format::Footer& footer, std::size_t size, layout::PackKind kind) {
    return has_size(footer.offsets(), size, false) && has_size(footer.stored_lengths(), size, false) &&
           has_size(footer.second_offsets(), size, kind == layout::PackKind::kData || size == 0) && has_size(footer.codecs(), size, true) &&
           has_size(footer.stored(), size, true);
}

}  // namespace

ObjectKind object_kind(layout::PackKind kind) {
    return kind == layout::PackKind::kData ? ObjectKind::kDataPack : ObjectKind::kNodePack;
}

Bytes PackFooter::encode(const PackIndex& index) {
    const std::size_t size = index.size();
    std::vector<std::uint64_t> offsets(size), second_offsets(size);
    std::vector<std::uint32_t> stored_lengths(size), plain_lengths(size);
    std::vector<std::uint8_t> codecs(size);
    std::vector<Checksum> blocks;
    blocks.reserve(index.blocks_.size());
    for (std::uint32_t i = 0; i < size; ++i) {
        const Segment segment = index.segment(i);
        offsets[i] = segment.offset;
        second_offsets[i] = segment.second_offset;
        stored_lengths[i] = segment.stored_length;
        plain_lengths[i] = segment.plain_length;
        codecs[i] = static_cast<std::uint8_t>(segment.codec);
        const auto of_segment = index.blocks(i);
        blocks.insert(blocks.end(), of_segment.begin(), of_segment.end());
    }
    flatbuffers::FlatBufferBuilder builder(4096 + size * 64);
    const auto offsets_at = builder.CreateVector(offsets);
    const auto second_offsets_at =
        index.kind() == layout::PackKind::kNodes ? builder.CreateVector(second_offsets) : vector_unless_default(builder, second_offsets);
    const auto stored_lengths_at = builder.CreateVector(stored_lengths);
    const auto plain_lengths_at = builder.CreateVector(plain_lengths);
    const auto codecs_at = vector_unless_default(builder, codecs);
    const auto blocks_at = checksums(builder, blocks);
    const auto stored_at = checksums(builder, index.stored_);
    format::PackId id;
    std::memcpy(&id, index.id().bytes.data(), sizeof(id));
    builder.Finish(format::CreateFooter(builder, &id, index.generation(), static_cast<std::uint32_t>(object_kind(index.kind())), offsets_at,
                                        second_offsets_at, stored_lengths_at, plain_lengths_at, codecs_at, blocks_at, stored_at));
    const auto* begin = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
    return Bytes(begin, begin + builder.GetSize());
}

Parsed<PackIndex> PackFooter::parse(std::span<const std::byte> inner, layout::PackKind kind, const PackId& id, std::uint32_t generation,
                                    std::uint64_t segments_end) {
    using Result = Parsed<PackIndex>;
    flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(inner.data()), inner.size(), 4, 4);
    if (!verifier.VerifyBuffer<format::Footer>(nullptr)) {
        return Result::bad("malformed");
    }
    const auto& footer = *flatbuffers::GetRoot<format::Footer>(inner.data());
    if (footer.pack() == nullptr || std::memcmp(footer.pack(), id.bytes.data(), sizeof(id.bytes)) != 0 ||
        footer.generation() != generation || footer.kind() != static_cast<std::uint32_t>(object_kind(kind))) {
        return Result::bad("belongs to another pack");
    }
    if (footer.segment_salt() != nullptr || footer.tombstones() != nullptr) {
        return Result::bad("uses fields of a newer version");
    }
    const std::size_t size = footer.plain_lengths() == nullptr ? 0 : footer.plain_lengths()->size();
    const std::size_t block_total = footer.blocks() == nullptr ? 0 : footer.blocks()->size();
    if (size > kSegmentsPerPackLimit || block_total > kBlocksPerPackLimit || !has_size(footer.blocks(), block_total, true) ||
        (size != 0 && !lists_agree(footer, size, kind))) {
        return Result::bad("its lists don't agree, or are too long");
    }
    PackIndex index(kind, id, generation);
    std::uint64_t end = kPackAlignment, second_end = kPackAlignment, blocks = 0;
    for (std::uint32_t i = 0; i < size; ++i) {
        const Segment segment = segment_at(footer, i);
        if (const char* flaw = flaw_of(segment, kind, end, second_end, segments_end)) {
            return Result::bad(flaw);
        }
        if (segment.codec != Codec::kNone && footer.stored() == nullptr) {
            return Result::bad("a segment has no checksum");
        }
        index.append(segment, static_cast<std::uint32_t>(blocks));
        blocks += block_count(segment.plain_length);
    }
    if (blocks != block_total) {
        return Result::bad("its number of checksums is wrong");
    }
    if (block_total != 0) {
        const auto* first = reinterpret_cast<const Checksum*>(footer.blocks()->Data());
        index.blocks_.assign(first, first + block_total);
    }
    if (footer.stored() != nullptr) {
        const auto* first = reinterpret_cast<const Checksum*>(footer.stored()->Data());
        index.stored_.assign(first, first + size);
    }
    index.end_ = end;
    index.fit();
    return Result::good(std::move(index));
}

}  // namespace nodesnap
