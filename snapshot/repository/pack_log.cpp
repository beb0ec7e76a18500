#include "snapshot/repository/pack_log.h"

#include <algorithm>
#include <cstring>

#include "platform/error.h"
#include "snapshot/repository/object_header.h"
#include "snapshot/repository/pack.h"
#include "snapshot/repository/records_runs.h"

namespace nodesnap {
namespace {

constexpr std::size_t kBlockBytes = 64U << 10;  // of records, before compression; a multiple of what a record may have
constexpr std::size_t kRecordHead = 8;          // lengths of key and value
constexpr std::size_t kBlockHead = 8;           // stored and plain length
constexpr char kRunKind = 3;                    // in the place of a key's kind; no key of the tree has it
constexpr std::size_t kRunKey = 8 + 1 + 8;      // inode number, kind, offset in the file
constexpr std::size_t kRunValue = 40;
static_assert(kRecordHead + kKeyLimit + kValueLimit <= kBlockBytes);

void append(Bytes& to, std::span<const std::byte> bytes) {
    to.insert(to.end(), bytes.begin(), bytes.end());
}

template <typename T>
void append_number(Bytes& to, T value) {
    Bytes bytes(sizeof value);
    store_little_endian(bytes, 0, value);
    append(to, bytes);
}

void store_big_endian(std::span<char> into, std::uint64_t value) {
    for (std::size_t i = 0; i < sizeof value; ++i) {
        into[i] = static_cast<char>(value >> (56 - 8 * i));
    }
}

std::uint64_t load_big_endian(std::string_view text) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof value; ++i) {
        value = value << 8 | static_cast<std::uint8_t>(text[i]);
    }
    return value;
}

// Goes through the blocks of a log that its checksum has proved to be as it was written.
class Reader {
public:
    Reader(const std::string& object, const PackLogSink& sink) : object_(object), sink_(sink) {}

    void read_blocks(std::span<const std::byte> blocks) {
        Bytes plain;
        while (!blocks.empty()) {
            require(blocks.size() >= kBlockHead, "it ends within a block");
            const auto stored_length = load_little_endian<std::uint32_t>(blocks, 0);
            const auto plain_length = load_little_endian<std::uint32_t>(blocks, 4);
            require(plain_length <= kBlockBytes && stored_length <= blocks.size() - kBlockHead, "a block's lengths are out of bounds");
            plain.resize(plain_length);
            require(decompress(blocks.subspan(kBlockHead, stored_length), plain), "a block cannot be decompressed");
            read_records(plain);
            blocks = blocks.subspan(kBlockHead + stored_length);
        }
    }

private:
    void require(bool sound, const char* flaw) const {
        if (!sound) {
            throw Error::damaged(object_, flaw);
        }
    }

    void read_records(std::span<const std::byte> records) const {
        while (!records.empty()) {
            require(records.size() >= kRecordHead, "it ends within a record");
            const auto key_length = load_little_endian<std::uint32_t>(records, 0);
            const auto value_length = load_little_endian<std::uint32_t>(records, 4);
            records = records.subspan(kRecordHead);
            require(key_length <= records.size() && value_length <= records.size() - key_length, "a record's lengths are out of bounds");
            const std::string_view key(reinterpret_cast<const char*>(records.data()), key_length);
            tell(key, records.subspan(key_length, value_length));
            records = records.subspan(key_length + value_length);
        }
    }

    void tell(std::string_view key, std::span<const std::byte> value) const {
        if (key.size() == kRunKey && key[sizeof(std::uint64_t)] == kRunKind) {
            return sink_.run(load_big_endian(key), run_of(load_big_endian(key.substr(sizeof(std::uint64_t) + 1)), value));
        }
        const key::Parts parts = key::parse(key);
        if (parts.kind == key::Kind::kInode) {
            return sink_.inode(parts.ino, decode_inode(value));
        }
        require(parts.kind == key::Kind::kXattr, "a record is of a kind that isn't logged");
        sink_.xattr(parts.ino, parts.name, decode_xattr(value));
    }

    Run run_of(std::uint64_t offset, std::span<const std::byte> value) const {
        require(value.size() == kRunValue, "a run has another length");
        Run run;
        run.offset = offset;
        run.length = load_little_endian<std::uint64_t>(value, 0);
        std::memcpy(run.pack.bytes.data(), value.data() + 8, run.pack.bytes.size());
        run.first = load_little_endian<std::uint32_t>(value, 24);
        run.skip = load_little_endian<std::uint32_t>(value, 28);
        run.count = load_little_endian<std::uint32_t>(value, 32);
        run.flags = load_little_endian<std::uint32_t>(value, 36);
        if (const char* flaw = flaw_of(run, 0)) {
            throw Error::damaged(object_, flaw);
        }
        return run;
    }

    const std::string& object_;
    const PackLogSink& sink_;
};

// Completes an object whose payload stands behind the room for its header.
Bytes seal(Bytes object, const Uuid& repository, const PackId& pack) {
    const std::span<std::byte> bytes = object;
    ObjectHeader header;
    header.kind = ObjectKind::kPackLog;
    header.repository = repository;
    header.object_id = pack.bytes;
    header.payload_length = bytes.size() - kHeaderBytes;
    header.payload_checksum = Hasher(0)(bytes.subspan(kHeaderBytes));
    encode_object_header(header, bytes.first<kHeaderBytes>());
    object.resize((object.size() + kPackAlignment - 1) / kPackAlignment * kPackAlignment);
    return object;
}

}  // namespace

void PackLog::add(std::string_view key, std::span<const std::byte> value, Compressor& compressor) {
    if (open_.size() + kRecordHead + key.size() + value.size() > kBlockBytes) {
        close_block(compressor);
    }
    append_number(open_, static_cast<std::uint32_t>(key.size()));
    append_number(open_, static_cast<std::uint32_t>(value.size()));
    append(open_, std::as_bytes(std::span(key.data(), key.size())));
    append(open_, value);
}

void PackLog::add_run(std::uint64_t ino, const Run& run, Compressor& compressor) {
    char key[kRunKey];
    store_big_endian(std::span(key).first(sizeof ino), ino);
    key[sizeof ino] = kRunKind;
    store_big_endian(std::span(key).subspan(sizeof ino + 1), run.offset);
    std::byte value[kRunValue];
    store_little_endian<std::uint64_t>(value, 0, run.length);
    std::memcpy(value + 8, run.pack.bytes.data(), run.pack.bytes.size());
    store_little_endian<std::uint32_t>(value, 24, run.first);
    store_little_endian<std::uint32_t>(value, 28, run.skip);
    store_little_endian<std::uint32_t>(value, 32, run.count);
    store_little_endian<std::uint32_t>(value, 36, run.flags);
    add({key, sizeof key}, value, compressor);
}

void PackLog::close_block(Compressor& compressor) {
    if (open_.empty()) {
        return;
    }
    Bytes stored(compress_bound(open_.size()));
    stored.resize(compressor.compress(open_, stored));
    append_number(blocks_, static_cast<std::uint32_t>(stored.size()));
    append_number(blocks_, static_cast<std::uint32_t>(open_.size()));
    append(blocks_, stored);
    open_.clear();
}

Bytes PackLog::encode(const Uuid& repository, const PackId& pack, const std::optional<PackId>& before, Compressor& compressor) {
    close_block(compressor);
    Bytes object(kHeaderBytes);
    const PackId named = before.value_or(PackId{});
    append(object, std::as_bytes(std::span(named.bytes)));
    append(object, blocks_);
    return seal(std::move(object), repository, pack);
}

Bytes encode_pack_log_mark(const Uuid& repository, const PackId& pack) {
    return seal(Bytes(kHeaderBytes), repository, pack);
}

PackLogHead read_pack_log(std::span<const std::byte> object, const std::string& object_name, const Uuid& repository, const PackId& pack,
                          const PackLogSink& sink) {
    const auto header = parse_object_header(object);
    if (!header) {
        throw Error::damaged(object_name, header.flaw);
    }
    const ObjectHeader& found = *header.value;
    PackId before;
    if (found.kind != ObjectKind::kPackLog || found.repository != repository || found.object_id != pack.bytes || found.generation != 0) {
        throw Error::damaged(object_name, "it is not this pack's log");
    }
    if (found.payload_length == 0) {
        return {true, std::nullopt};
    }
    if (found.payload_length < before.bytes.size() || found.payload_length > object.size() - kHeaderBytes) {
        throw Error::damaged(object_name, "cut off");
    }
    const auto payload = object.subspan(kHeaderBytes, found.payload_length);
    if (!matches(found.payload_checksum, payload)) {
        throw Error::damaged(object_name, "checksum mismatch");
    }
    refuse_unknown_features(found, object_name);
    std::memcpy(before.bytes.data(), payload.data(), before.bytes.size());
    Reader(object_name, sink).read_blocks(payload.subspan(before.bytes.size()));
    return {false, before == PackId{} ? std::nullopt : std::optional(before)};
}

}  // namespace nodesnap
