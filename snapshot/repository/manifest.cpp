#include "snapshot/repository/manifest.h"

#include <algorithm>

#include "platform/error.h"
#include "snapshot/repository/manifest_fields.h"
#include "snapshot/repository/object_header.h"
#include "snapshot/repository/pack_salvage.h"

namespace nodesnap {
namespace {

constexpr std::uint32_t kManifestMagic = four_letters("MANI");
constexpr std::size_t kBlock = 4096;
constexpr int kCopies = 2;

ObjectHeader header_of(ObjectKind kind, const Uuid& repository, const SessionId& session, std::uint32_t revision) {
    ObjectHeader header;
    header.kind = kind;
    header.repository = repository;
    std::copy(session.bytes.begin(), session.bytes.end(), header.object_id.begin());
    header.generation = revision;
    return header;
}

Bytes twice(const ObjectHeader& header, std::span<const std::byte> payload) {
    const std::size_t half = (kHeaderBytes + payload.size() + kBlock - 1) / kBlock * kBlock;
    Bytes object(kCopies * half);
    const std::span<std::byte> bytes = object;
    encode_object_header(header, bytes.first<kHeaderBytes>());
    std::copy(payload.begin(), payload.end(), object.begin() + kHeaderBytes);
    std::copy_n(object.begin(), half, object.begin() + static_cast<std::ptrdiff_t>(half));
    return object;
}

// One copy: a manifest, or nothing for the mark of an abandoned one.
struct Copy {
    std::optional<Manifest> manifest;
    std::size_t length = 0;  // without padding
};

bool belongs(const ObjectHeader& header, const Manifest& manifest, const std::optional<layout::ManifestName>& name) {
    const ObjectHeader expected = header_of(header.kind, header.repository, manifest.id, manifest.name.revision);
    return header.object_id == expected.object_id && header.generation == expected.generation &&
           (!name || (name->same_backup(manifest.name) && name->revision == manifest.name.revision));
}

Parsed<Copy> parse_copy(std::span<const std::byte> half, const std::string& object, const Uuid& repository) {
    using Result = Parsed<Copy>;
    const auto header = parse_object_header(half);
    if (!header) {
        return Result::bad(header.flaw);
    }
    const std::uint64_t length = header.value->payload_length;
    if (header.value->kind != ObjectKind::kManifest && header.value->kind != ObjectKind::kVoid) {
        return Result::bad("not a manifest");
    }
    if (length > half.size() - kHeaderBytes) {
        return Result::bad("cut off");
    }
    if (!matches(header.value->payload_checksum, half.subspan(kHeaderBytes, length))) {
        return Result::bad("checksum mismatch");
    }
    if (header.value->repository != repository) {
        return Result::bad("belongs to another repository");
    }
    refuse_unknown_features(*header.value, object);
    if (header.value->kind == ObjectKind::kVoid) {
        return length == 0 ? Result::good({std::nullopt, kHeaderBytes}) : Result::bad("the mark of an abandoned backup has content");
    }
    const auto inner = open_inner_part(kManifestMagic, half.subspan(kHeaderBytes, length), kManifestPlainLimit);
    if (!inner) {
        return Result::bad(inner.flaw);
    }
    auto manifest = parse_manifest_fields(*inner.value);
    if (!manifest) {
        return Result::bad(manifest.flaw);
    }
    if (!belongs(*header.value, *manifest.value, layout::parse_manifest(object))) {
        return Result::bad("belongs under another name");
    }
    manifest.value->may_rewrite = (header.value->read_only_compat & ~kKnownReadOnlyCompat) == 0;
    return Result::good({std::move(manifest.value), kHeaderBytes + length});
}

}  // namespace

std::string to_string(Consistency consistency) {
    switch (consistency) {
        case Consistency::kPointInTime:
            return "point-in-time";
        case Consistency::kCrashConsistent:
            return "crash-consistent";
        case Consistency::kInconsistent:
            return "inconsistent";
    }
    return "unknown";
}

Bytes encode_manifest(const Uuid& repository, const Manifest& manifest) {
    const Bytes fields = encode_manifest_fields(manifest);
    if (fields.size() > kManifestPlainLimit) {
        throw Error::failed("the backup's manifest is too large", "split the node directory, or exclude parts of it");
    }
    const Bytes payload = seal_inner_part(kManifestMagic, fields);
    ObjectHeader header = header_of(ObjectKind::kManifest, repository, manifest.id, manifest.name.revision);
    header.payload_length = payload.size();
    header.payload_checksum = Hasher(0)(payload);
    return twice(header, payload);
}

Bytes encode_void_manifest(const Uuid& repository, const SessionId& session, std::uint32_t revision) {
    ObjectHeader header = header_of(ObjectKind::kVoid, repository, session, revision);
    header.payload_checksum = Hasher(0)({});
    return twice(header, {});
}

std::optional<SessionId> session_of_mark(std::span<const std::byte> object, const std::string& object_name, const Uuid& repository) {
    for (const std::size_t offset : {std::size_t{0}, object.size() / 2}) {
        const auto half = object.subspan(offset);
        const auto copy = parse_copy(half, object_name, repository);
        if (!copy || copy.value->manifest) {
            continue;
        }
        const ObjectHeader header = *parse_object_header(half).value;
        if ((header.read_only_compat & ~kKnownReadOnlyCompat) != 0) {
            return std::nullopt;
        }
        SessionId session;
        std::copy_n(header.object_id.begin(), session.bytes.size(), session.bytes.begin());
        return session;
    }
    return std::nullopt;
}

std::optional<Manifest> decode_manifest(std::span<const std::byte> object, const std::string& object_name, const Uuid& repository,
                                        const DamageSink& sink) {
    // An object that was cut off may still hold its first copy.
    const bool whole = !object.empty() && object.size() % (kCopies * kBlock) == 0;
    const std::span<const std::byte> halves[] = {whole ? object.first(object.size() / 2) : object,
                                                 whole ? object.subspan(object.size() / 2) : object};
    std::vector<Damage> damages;
    std::optional<Copy> good;
    for (int i = 0; i < kCopies; ++i) {
        const std::string name = i == 0 ? "first copy: " : "second copy: ";
        if (i == 1 && !whole) {
            damages.push_back({object_name, name + "the object was cut off or grew", false});
            continue;
        }
        auto copy = parse_copy(halves[i], object_name, repository);
        if (!copy) {
            damages.push_back({object_name, name + copy.flaw, false});
            continue;
        }
        if (whole && !all_zero(halves[i].subspan(copy.value->length))) {
            damages.push_back({object_name, name + "its padding isn't zero", false});
        }
        if (!good) {
            good = std::move(copy.value);
        }
    }
    for (Damage& damage : damages) {
        damage.healed = good.has_value();
        if (sink) {
            sink(damage);
        }
    }
    if (!good) {
        throw Error::damaged(object_name, damages.front().what, "the other backups are not affected; `nodesnap list` shows them");
    }
    return std::move(good->manifest);
}

std::optional<std::optional<Manifest>> load_manifest(Target& target, const std::string& object_name, const Uuid& repository,
                                                     const DamageSink& sink) {
    int device_error = 0;
    try {
        const std::unique_ptr<ObjectReader> reader = target.open(object_name);
        if (reader == nullptr) {
            return std::nullopt;
        }
        if (reader->size() > kManifestObjectLimit) {
            throw Error::damaged(target.describe(object_name), "it is too large for a manifest");
        }
        Bytes object(reader->size());
        device_error = salvaging_read(*reader, object, 0);
        return decode_manifest(object, object_name, repository, sink);
    } catch (const Error& error) {
        if (is_media_error(error.error_number())) {
            throw Error(ExitStatus::kDamaged, error.message(), error.hint(), error.error_number());
        }
        if (device_error == 0 || error.status() != ExitStatus::kDamaged) {
            throw;
        }
        const Error cause = Error::system("read", target.describe(object_name), device_error);
        throw Error(ExitStatus::kDamaged, cause.message(), cause.hint(), device_error);
    }
}

}  // namespace nodesnap
