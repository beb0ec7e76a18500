#include "snapshot/repository/records.h"

#include <algorithm>
#include <cstring>

#include "metadata_generated.h"
#include "platform/error.h"
#include "snapshot/repository/object_header.h"
#include "snapshot/repository/records_runs.h"

namespace nodesnap {
namespace {

using Builder = flatbuffers::FlatBufferBuilder;

static_assert(sizeof(PackId) == sizeof(format::PackId));

constexpr std::size_t kSymlinkLimit = 4095;  // PATH_MAX without its zero
constexpr std::size_t kXattrSizeLimit = 64U << 10;
constexpr std::size_t kOwnerNameLimit = 1024;
constexpr std::uint32_t kNanosecondsLimit = 1'000'000'000;
constexpr std::uint16_t kModeBits = 07777;
constexpr std::uint8_t kHeightLimit = 16;
constexpr std::uint64_t kUnknownBytes = ~std::uint64_t{0};  // as in the schema

[[noreturn]] void malformed(const char* what) {
    throw Error::damaged("a metadata record", what);
}

void require(bool holds, const char* what) {
    if (!holds) {
        malformed(what);
    }
}

Builder& cleared_builder() {
    thread_local Builder builder(1024);
    builder.Clear();
    return builder;
}

Bytes taken(const Builder& builder) {
    const auto* begin = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
    if (builder.GetSize() > kValueLimit) {
        throw Error::failed("internal error: a metadata record is too long", "please report this");
    }
    return Bytes(begin, begin + builder.GetSize());
}

flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> byte_vector(Builder& builder, std::span<const std::byte> bytes) {
    return bytes.empty() ? 0 : builder.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

Bytes to_bytes(const flatbuffers::Vector<std::uint8_t>* vector) {
    if (vector == nullptr) {
        return {};
    }
    const auto* begin = reinterpret_cast<const std::byte*>(vector->Data());
    return Bytes(begin, begin + vector->size());
}

// A verified root of a value. FlatBuffers reads in place, so a value that lies unaligned is copied first.
template <typename T>
class Root {
public:
    explicit Root(std::span<const std::byte> value) : value_(value) {
        require(value.size() <= kValueLimit, "too long");
        if (!aligned<std::uint64_t>(value.data())) {
            copy_.assign(value.begin(), value.end());
            value_ = copy_;
        }
        flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(value_.data()), value_.size(), 4, 4);
        require(verifier.VerifyBuffer<T>(nullptr), "malformed");
    }
    const T* operator->() const { return flatbuffers::GetRoot<T>(value_.data()); }

private:
    std::span<const std::byte> value_;
    Bytes copy_;
};

// ---- Runs

struct RunColumns {
    std::vector<format::Run> runs;
    std::vector<PackId> packs;
};

RunColumns to_columns(const std::vector<Run>& runs) {
    RunColumns columns;
    columns.runs.reserve(runs.size());
    for (const Run& run : runs) {
        std::uint16_t pack = 0;
        if (run.flags == Run::kNone) {
            const auto known = std::find(columns.packs.begin(), columns.packs.end(), run.pack);
            pack = static_cast<std::uint16_t>(known - columns.packs.begin());
            if (known == columns.packs.end()) {
                columns.packs.push_back(run.pack);
            }
        }
        columns.runs.emplace_back(run.offset, run.length, run.first, run.skip, run.count, pack, static_cast<std::uint16_t>(run.flags));
    }
    return columns;
}

using StoredRuns = flatbuffers::Offset<flatbuffers::Vector<const format::Run*>>;
using StoredPacks = flatbuffers::Offset<flatbuffers::Vector<const format::PackId*>>;

StoredRuns run_vector(Builder& builder, const RunColumns& columns) {
    return columns.runs.empty() ? 0 : builder.CreateVectorOfStructs(columns.runs);
}

StoredPacks pack_vector(Builder& builder, const RunColumns& columns) {
    return columns.packs.empty()
               ? 0
               : builder.CreateVectorOfStructs(reinterpret_cast<const format::PackId*>(columns.packs.data()), columns.packs.size());
}

std::vector<Run> from_stored(const flatbuffers::Vector<const format::Run*>* stored,
                             const flatbuffers::Vector<const format::PackId*>* packs) {
    std::vector<Run> runs;
    if (stored == nullptr) {
        return runs;
    }
    // The Verifier checks where a vector's length lies, but not that elements of 8 bytes are aligned.
    require(stored->size() <= kInlineRunLimit && aligned<format::Run>(stored->Data()), "too many runs, or unaligned ones");
    runs.reserve(stored->size());
    std::uint64_t end = 0;
    for (const format::Run* from : *stored) {
        Run run{from->offset(), from->length(), {}, from->first(), from->skip(), from->count(), from->flags()};
        if (run.flags == Run::kNone) {
            require(packs != nullptr && from->pack() < packs->size(), "a run names no pack");
            std::memcpy(run.pack.bytes.data(), packs->Get(from->pack()), sizeof(run.pack.bytes));
        }
        if (const char* flaw = flaw_of(run, end)) {
            malformed(flaw);
        }
        end = run.end();
        runs.push_back(run);
    }
    return runs;
}

// ---- Inodes

format::Times to_stored(const Inode& inode) {
    return {inode.accessed.seconds,     inode.modified.seconds,     inode.changed.seconds,     inode.born.seconds,
            inode.accessed.nanoseconds, inode.modified.nanoseconds, inode.changed.nanoseconds, inode.born.nanoseconds};
}

Time checked_time(std::int64_t seconds, std::uint32_t nanoseconds) {
    require(nanoseconds < kNanosecondsLimit, "a time has a second's worth of nanoseconds");
    return {seconds, nanoseconds};
}

FileType checked_type(std::uint8_t type) {
    require(type >= static_cast<std::uint8_t>(FileType::kRegular) && type <= static_cast<std::uint8_t>(FileType::kBlockDevice),
            "unknown type of file");
    return static_cast<FileType>(type);
}

void check_content(const Inode& inode) {
    const bool regular = inode.type == FileType::kRegular;
    require(regular || (inode.runs.empty() && !inode.map && inode.run_count == 0), "runs in what isn't a regular file");
    require(inode.size <= kFileSizeLimit, "too large a file");
    if (inode.type == FileType::kSymlink) {
        // Of one that couldn't be read when the backup was made only the name is known.
        require((!inode.content.empty() || inode.damaged) && inode.content.size() <= kSymlinkLimit,
                "a symlink's target is empty or too long");
        require(std::find(inode.content.begin(), inode.content.end(), std::byte{0}) == inode.content.end(),
                "a symlink's target holds a zero byte");
        return;
    }
    require(inode.content.empty() || (regular && inode.content.size() <= kInlineContentLimit && inode.content.size() == inode.size),
            "content that isn't the whole file");
    require((!inode.content.empty() + !inode.runs.empty() + inode.map.has_value()) <= 1, "content is given twice");
    require(inode.map ? inode.run_count > 0 : inode.run_count == inode.runs.size(), "the number of runs is wrong");
}

}  // namespace

Bytes encode(const Inode& inode) {
    Builder& builder = cleared_builder();
    const RunColumns columns = to_columns(inode.runs);
    const auto content = byte_vector(builder, inode.content);
    const auto runs = run_vector(builder, columns);
    const auto packs = pack_vector(builder, columns);
    const format::Times times = to_stored(inode);
    format::Reference map;
    if (inode.map) {
        format::PackId pack;
        std::memcpy(&pack, inode.map->at.pack.bytes.data(), sizeof(pack));
        map = format::Reference(pack, inode.map->at.number);
    }
    builder.Finish(format::CreateInode(builder, static_cast<std::uint8_t>(inode.type), inode.mode & kModeBits, inode.uid, inode.gid,
                                       inode.size, inode.links, inode.device_major, inode.device_minor, &times, inode.flags,
                                       inode.generation, inode.xattr_count, inode.damaged, content, runs, packs, inode.map ? &map : nullptr,
                                       inode.map ? inode.map->height : 0, inode.map ? inode.run_count : inode.runs.size(),
                                       inode.data_bytes.value_or(kUnknownBytes)));
    return taken(builder);
}

Inode decode_inode(std::span<const std::byte> value) {
    const Root<format::Inode> root(value);
    Inode inode;
    inode.type = checked_type(root->type());
    inode.mode = root->mode();
    require((inode.mode & ~kModeBits) == 0, "unknown mode bits");
    inode.uid = root->uid();
    inode.gid = root->gid();
    inode.size = root->size();
    inode.links = root->links();
    inode.device_major = root->device_major();
    inode.device_minor = root->device_minor();
    const format::Times* times = root->times();
    require(times != nullptr, "no times");
    inode.accessed = checked_time(times->accessed(), times->accessed_nanoseconds());
    inode.modified = checked_time(times->modified(), times->modified_nanoseconds());
    inode.changed = checked_time(times->changed(), times->changed_nanoseconds());
    inode.born = checked_time(times->born(), times->born_nanoseconds());
    inode.flags = root->flags();
    inode.generation = root->generation();
    inode.xattr_count = root->xattr_count();
    inode.damaged = root->damaged();
    inode.content = to_bytes(root->content());
    inode.runs = from_stored(root->runs(), root->packs());
    inode.run_count = root->run_count();
    if (root->data_bytes() != kUnknownBytes) {
        inode.data_bytes = root->data_bytes();
    }
    if (const format::Reference* map = root->map()) {
        NodeRef at;
        std::memcpy(at.at.pack.bytes.data(), &map->pack(), sizeof(PackId));
        at.at.number = map->number();
        at.height = root->map_height();
        require(at.height < kHeightLimit, "a map is too high");
        inode.map = at;
    }
    check_content(inode);
    return inode;
}

// ---- The others

Bytes encode(const Dirent& dirent) {
    Builder& builder = cleared_builder();
    builder.Finish(format::CreateDirent(builder, dirent.ino, static_cast<std::uint8_t>(dirent.type)));
    return taken(builder);
}

Dirent decode_dirent(std::span<const std::byte> value) {
    const Root<format::Dirent> root(value);
    require(root->ino() != 0, "no inode has the number 0");
    return {root->ino(), checked_type(root->type())};
}

Bytes encode(const Xattr& xattr) {
    Builder& builder = cleared_builder();
    const RunColumns columns = to_columns(xattr.runs);
    const auto value = byte_vector(builder, xattr.value);
    const auto runs = run_vector(builder, columns);
    const auto packs = pack_vector(builder, columns);
    builder.Finish(format::CreateXattr(builder, xattr.runs.empty() ? xattr.value.size() : xattr.size, value, runs, packs));
    return taken(builder);
}

Xattr decode_xattr(std::span<const std::byte> value) {
    const Root<format::Xattr> root(value);
    Xattr xattr;
    xattr.size = root->size();
    xattr.value = to_bytes(root->value());
    xattr.runs = from_stored(root->runs(), root->packs());
    require(xattr.size <= kXattrSizeLimit, "too long an attribute");
    if (xattr.runs.empty()) {
        require(xattr.value.size() == xattr.size && xattr.size <= kInlineContentLimit, "an attribute's value isn't whole");
        return xattr;
    }
    require(xattr.value.empty(), "an attribute's value is given twice");
    std::uint64_t end = 0;
    for (const Run& run : xattr.runs) {
        require(run.flags == Run::kNone && run.offset == end, "an attribute's value has holes");
        end = run.end();
    }
    require(end == xattr.size, "an attribute's value isn't whole");
    return xattr;
}

Bytes encode_owner_name(std::string_view name) {
    Builder& builder = cleared_builder();
    builder.Finish(format::CreateOwnerName(builder, byte_vector(builder, std::as_bytes(std::span(name)))));
    return taken(builder);
}

std::string decode_owner_name(std::span<const std::byte> value) {
    const Root<format::OwnerName> root(value);
    const auto* name = root->name();
    require(name != nullptr && name->size() != 0 && name->size() <= kOwnerNameLimit, "an owner's name is empty or too long");
    std::string text(reinterpret_cast<const char*>(name->Data()), name->size());
    require(text.find('\0') == std::string::npos, "an owner's name holds a zero byte");
    return text;
}

}  // namespace nodesnap
