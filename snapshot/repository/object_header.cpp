#include "snapshot/repository/object_header.h"

#include <algorithm>

#include "platform/error.h"
#include "snapshot/repository/pack.h"
#include "snapshot/repository/pack_codec.h"

namespace nodesnap {
namespace {

constexpr char kMagic[9] = "nodesnap";

// Offsets in the object header.
constexpr std::size_t kKind = 8, kLength = 12, kRepositoryId = 16, kObjectId = 32, kPayloadLength = 48, kIncompat = 56,
                      kReadOnlyCompat = 64, kCompat = 72, kGeneration = 80, kZero = 84, kPayloadChecksum = 96, kHeaderChecksum = 112;

// Offsets in the outer part. Behind the cipher is its key's slot, behind the salt are zeros: a reader only looks whether all are zero.
constexpr std::size_t kCodec = 4, kCipher = 8, kStoredLength = 16, kPlainLength = 24, kInnerChecksum = 32, kSalt = 48, kOuterChecksum = 112;

// An inner part that fits one block beside its outer part is kept plain: compressing it would save nothing.
constexpr std::size_t kSmallInnerPart = 4096 - kOuterBytes - kHeaderBytes;

void store_checksum(std::span<std::byte> bytes, std::size_t offset, const Checksum& checksum) {
    store_little_endian(bytes, offset, checksum.low);
    store_little_endian(bytes, offset + 8, checksum.high);
}

Checksum load_checksum(std::span<const std::byte> bytes, std::size_t offset) {
    return {load_little_endian<std::uint64_t>(bytes, offset), load_little_endian<std::uint64_t>(bytes, offset + 8)};
}

bool known(ObjectKind kind) {
    return kind == ObjectKind::kDataPack || kind == ObjectKind::kNodePack || kind == ObjectKind::kManifest || kind == ObjectKind::kVoid ||
           kind == ObjectKind::kTrailer || kind == ObjectKind::kPackLog || kind == ObjectKind::kChecks || kind == ObjectKind::kInventory;
}

}  // namespace

bool matches(const Checksum& expected, std::span<const std::byte> bytes) {
    static const Hasher kUnseeded(0);
    return kUnseeded(bytes) == expected;
}

bool all_zero(std::span<const std::byte> bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
}

void encode_object_header(const ObjectHeader& header, std::span<std::byte, kHeaderBytes> into) {
    const std::span<std::byte> bytes = into;
    std::fill(bytes.begin(), bytes.end(), std::byte{0});
    std::memcpy(bytes.data(), kMagic, 8);
    store_little_endian(bytes, kKind, static_cast<std::uint32_t>(header.kind));
    store_little_endian(bytes, kLength, static_cast<std::uint32_t>(kHeaderBytes));
    std::memcpy(bytes.data() + kRepositoryId, header.repository.bytes.data(), 16);
    std::memcpy(bytes.data() + kObjectId, header.object_id.data(), 16);
    store_little_endian(bytes, kPayloadLength, header.payload_length);
    store_little_endian(bytes, kIncompat, header.incompat);
    store_little_endian(bytes, kReadOnlyCompat, header.read_only_compat);
    store_little_endian(bytes, kCompat, header.compat);
    store_little_endian(bytes, kGeneration, header.generation);
    store_checksum(bytes, kPayloadChecksum, header.payload_checksum);
    store_checksum(bytes, kHeaderChecksum, Hasher(0)(bytes.first(kHeaderChecksum)));
}

Parsed<ObjectHeader> parse_object_header(std::span<const std::byte> bytes) {
    using Result = Parsed<ObjectHeader>;
    if (bytes.size() < kHeaderBytes) {
        return Result::bad("too short for a header");
    }
    if (std::memcmp(bytes.data(), kMagic, 8) != 0) {
        return Result::bad("no nodesnap magic");
    }
    if (!matches(load_checksum(bytes, kHeaderChecksum), bytes.first(kHeaderChecksum))) {
        return Result::bad("header checksum mismatch");
    }
    ObjectHeader header;
    header.kind = static_cast<ObjectKind>(load_little_endian<std::uint32_t>(bytes, kKind));
    if (!known(header.kind)) {
        return Result::bad("unknown kind of object");
    }
    if (load_little_endian<std::uint32_t>(bytes, kLength) != kHeaderBytes) {
        return Result::bad("wrong header length");
    }
    if (!all_zero(bytes.subspan(kZero, kPayloadChecksum - kZero))) {
        return Result::bad("reserved header bytes are in use");
    }
    std::memcpy(header.repository.bytes.data(), bytes.data() + kRepositoryId, 16);
    std::memcpy(header.object_id.data(), bytes.data() + kObjectId, 16);
    header.payload_length = load_little_endian<std::uint64_t>(bytes, kPayloadLength);
    header.incompat = load_little_endian<std::uint64_t>(bytes, kIncompat);
    header.read_only_compat = load_little_endian<std::uint64_t>(bytes, kReadOnlyCompat);
    header.compat = load_little_endian<std::uint64_t>(bytes, kCompat);
    header.generation = load_little_endian<std::uint32_t>(bytes, kGeneration);
    header.payload_checksum = load_checksum(bytes, kPayloadChecksum);
    return Result::good(header);
}

void refuse_unknown_features(const ObjectHeader& header, const std::string& object) {
    if ((header.incompat & ~kKnownIncompat) != 0) {
        throw Error::refused(object + " uses features that this version of nodesnap doesn't know",
                             "read it with the version that wrote it, or a newer one");
    }
}

Bytes seal_inner_part(std::uint32_t magic, std::span<const std::byte> plain) {
    const bool small = plain.size() <= kSmallInnerPart;
    Bytes sealed(kOuterBytes + (small ? plain.size() : compress_bound(plain.size())));
    if (small) {
        std::copy(plain.begin(), plain.end(), sealed.begin() + kOuterBytes);
    } else {
        sealed.resize(kOuterBytes + Compressor().compress(plain, std::span(sealed).subspan(kOuterBytes)));
    }
    const Codec codec = small ? Codec::kNone : Codec::kZstd;
    const std::span<std::byte> bytes = sealed;
    const auto inner = std::span<const std::byte>(sealed).subspan(kOuterBytes);
    store_little_endian(bytes, 0, magic);
    store_little_endian(bytes, kCodec, static_cast<std::uint32_t>(codec));
    store_little_endian(bytes, kStoredLength, static_cast<std::uint64_t>(inner.size()));
    store_little_endian(bytes, kPlainLength, static_cast<std::uint64_t>(plain.size()));
    store_checksum(bytes, kInnerChecksum, Hasher(0)(inner));
    store_checksum(bytes, kOuterChecksum, Hasher(0)(bytes.first(kOuterChecksum)));
    return sealed;
}

Parsed<Bytes> open_inner_part(std::uint32_t magic, std::span<const std::byte> bytes, std::size_t plain_limit) {
    using Result = Parsed<Bytes>;
    if (bytes.size() < kOuterBytes || load_little_endian<std::uint32_t>(bytes, 0) != magic) {
        return Result::bad("no outer part");
    }
    if (!matches(load_checksum(bytes, kOuterChecksum), bytes.first(kOuterChecksum))) {
        return Result::bad("outer part: checksum mismatch");
    }
    const auto codec = load_little_endian<std::uint32_t>(bytes, kCodec);
    const auto stored = load_little_endian<std::uint64_t>(bytes, kStoredLength);
    const auto plain = load_little_endian<std::uint64_t>(bytes, kPlainLength);
    if (codec > static_cast<std::uint32_t>(Codec::kZstd) || !all_zero(bytes.subspan(kCipher, kStoredLength - kCipher)) ||
        !all_zero(bytes.subspan(kSalt, kOuterChecksum - kSalt))) {
        return Result::bad("outer part: unknown codec or cipher");
    }
    if (stored > bytes.size() - kOuterBytes || plain > plain_limit) {
        return Result::bad("outer part: lengths out of bounds");
    }
    const auto inner = bytes.subspan(kOuterBytes, stored);
    if (!matches(load_checksum(bytes, kInnerChecksum), inner)) {
        return Result::bad("checksum mismatch");
    }
    if (codec == static_cast<std::uint32_t>(Codec::kNone)) {
        return stored == plain ? Result::good(Bytes(inner.begin(), inner.end())) : Result::bad("outer part: lengths differ");
    }
    Bytes content(plain);
    if (!decompress(inner, content)) {
        return Result::bad("can't be decompressed");
    }
    return Result::good(std::move(content));
}

}  // namespace nodesnap
