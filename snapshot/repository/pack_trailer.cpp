#include "snapshot/repository/pack_trailer.h"

#include <algorithm>

#include "snapshot/repository/pack_codec.h"
#include "snapshot/repository/pack_footer.h"

namespace nodesnap {
namespace {

constexpr std::size_t kPayloadBytes = 64;
constexpr std::uint32_t kFooterCopies = 2;

// Offsets in the payload.
constexpr std::size_t kLength = 0, kPackKind = 8, kCopies = 12, kFirst = 16, kSecond = 24, kFooterLength = 32, kZero = 40,
                      kFooterChecksum = 48;

std::uint64_t round_up(std::uint64_t value) {
    return (value + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
}

// Both footers lie, without overlap, in blocks of their own between the head and the trailers.
bool in_bounds(const PackTrailer& trailer) {
    const std::uint64_t end = trailer.pack_length - 2 * kTrailerBytes;
    return trailer.footer_length >= kOuterBytes && trailer.footer_length <= kOuterBytes + compress_bound(kFooterLimit) &&
           trailer.first_footer >= kPackAlignment && trailer.first_footer % kPackAlignment == 0 &&
           trailer.second_footer % kPackAlignment == 0 && trailer.first_footer < end &&
           trailer.footer_length <= end - trailer.first_footer && trailer.second_footer < end &&
           trailer.second_footer >= trailer.first_footer + trailer.footer_length && trailer.footer_length <= end - trailer.second_footer;
}

}  // namespace

void encode_trailer(const PackTrailer& trailer, ObjectKind pack_kind, std::span<std::byte, kTrailerBytes> into) {
    std::fill(into.begin(), into.end(), std::byte{0});
    const std::span<std::byte> payload = into.subspan(kHeaderBytes, kPayloadBytes);
    store_little_endian(payload, kLength, trailer.pack_length);
    store_little_endian(payload, kPackKind, static_cast<std::uint32_t>(pack_kind));
    store_little_endian(payload, kCopies, kFooterCopies);
    store_little_endian(payload, kFirst, trailer.first_footer);
    store_little_endian(payload, kSecond, trailer.second_footer);
    store_little_endian(payload, kFooterLength, trailer.footer_length);
    store_little_endian(payload, kFooterChecksum, trailer.footer_checksum.low);
    store_little_endian(payload, kFooterChecksum + 8, trailer.footer_checksum.high);
    ObjectHeader header = trailer.header;
    header.payload_length = kPayloadBytes;
    header.payload_checksum = Hasher(0)(payload);
    encode_object_header(header, into.first<kHeaderBytes>());
}

Parsed<PackTrailer> parse_trailer(std::span<const std::byte> block, const Uuid& repository, layout::PackKind kind, const PackId& id,
                                  std::uint32_t generation, std::uint64_t pack_length) {
    using Result = Parsed<PackTrailer>;
    auto header = parse_object_header(block);
    if (!header) {
        return Result::bad(header.flaw);
    }
    if (header.value->kind != ObjectKind::kTrailer || header.value->payload_length != kPayloadBytes ||
        block.size() < kHeaderBytes + kPayloadBytes) {
        return Result::bad("not a trailer");
    }
    const auto payload = block.subspan(kHeaderBytes, kPayloadBytes);
    if (!matches(header.value->payload_checksum, payload)) {
        return Result::bad("checksum mismatch");
    }
    if (header.value->repository != repository) {
        return Result::bad("belongs to another repository");
    }
    if (header.value->object_id != id.bytes || header.value->generation != generation) {
        return Result::bad("belongs to another pack");
    }
    PackTrailer trailer;
    trailer.header = *header.value;
    trailer.pack_length = load_little_endian<std::uint64_t>(payload, kLength);
    trailer.first_footer = load_little_endian<std::uint64_t>(payload, kFirst);
    trailer.second_footer = load_little_endian<std::uint64_t>(payload, kSecond);
    trailer.footer_length = load_little_endian<std::uint64_t>(payload, kFooterLength);
    trailer.footer_checksum = {load_little_endian<std::uint64_t>(payload, kFooterChecksum),
                               load_little_endian<std::uint64_t>(payload, kFooterChecksum + 8)};
    if (load_little_endian<std::uint32_t>(payload, kPackKind) != static_cast<std::uint32_t>(object_kind(kind))) {
        return Result::bad("belongs to another kind of pack");
    }
    if (trailer.pack_length != pack_length || pack_length < kSmallestPack) {
        return Result::bad("the object's length isn't the pack's");
    }
    if (load_little_endian<std::uint32_t>(payload, kCopies) != kFooterCopies || load_little_endian<std::uint64_t>(payload, kZero) != 0 ||
        !in_bounds(trailer)) {
        return Result::bad("footers out of bounds");
    }
    return Result::good(trailer);
}

// ---- The bytes that begin and end a pack.

Bytes pack_head(const Uuid& repository, layout::PackKind kind, const PackId& id, std::uint32_t generation) {
    Bytes head(kPackAlignment);
    ObjectHeader header;
    header.kind = object_kind(kind);
    header.repository = repository;
    header.object_id = id.bytes;
    header.generation = generation;
    header.payload_checksum = Hasher(0)({});
    encode_object_header(header, std::span(head).first<kHeaderBytes>());
    return head;
}

Bytes pack_tail(const Uuid& repository, const PackIndex& index, std::uint64_t data_end) {
    const Bytes footer = seal_inner_part(kFooterMagic, PackFooter::encode(index));
    PackTrailer trailer;
    trailer.header.kind = ObjectKind::kTrailer;
    trailer.header.repository = repository;
    trailer.header.object_id = index.id().bytes;
    trailer.header.generation = index.generation();
    trailer.first_footer = round_up(std::max(data_end, kPackAlignment));
    trailer.second_footer = round_up(trailer.first_footer + footer.size());
    trailer.footer_length = footer.size();
    trailer.footer_checksum = Hasher(0)(footer);
    const std::uint64_t footers_end = round_up(trailer.second_footer + footer.size());
    trailer.pack_length = footers_end + 2 * kTrailerBytes;

    Bytes tail(trailer.pack_length - data_end);
    const std::span<std::byte> bytes = tail;
    std::copy(footer.begin(), footer.end(), bytes.begin() + static_cast<std::ptrdiff_t>(trailer.first_footer - data_end));
    std::copy(footer.begin(), footer.end(), bytes.begin() + static_cast<std::ptrdiff_t>(trailer.second_footer - data_end));
    const auto trailers = bytes.last<2 * kTrailerBytes>();
    encode_trailer(trailer, object_kind(index.kind()), trailers.first<kTrailerBytes>());
    encode_trailer(trailer, object_kind(index.kind()), trailers.last<kTrailerBytes>());
    return tail;
}

}  // namespace nodesnap
