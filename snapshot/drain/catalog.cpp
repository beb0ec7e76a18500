#include "snapshot/drain/catalog.h"

#include <cstring>

#include "platform/error.h"
#include "platform/interrupt.h"

namespace nodesnap {
namespace {

constexpr std::size_t kEntriesMemory = 16U << 20;
constexpr std::size_t kRunsMemory = 8U << 20;
constexpr std::uint64_t kInterruptInterval = 4096;  // entries between looks at the flag

std::string_view as_text(const Bytes& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> as_bytes(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

// The sorter's own encoding of a run: it never leaves the process, so it is the struct's bytes.
struct SpilledRun {
    std::uint64_t length;
    PackId pack;
    std::uint32_t first;
    std::uint32_t skip;
    std::uint32_t count;
    std::uint32_t flags;
};

void append_big_endian(std::string& out, std::uint64_t value) {
    for (int shift = 56; shift >= 0; shift -= 8) {
        out.push_back(static_cast<char>(value >> shift));
    }
}

std::uint64_t read_big_endian(std::string_view text) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < 8; ++i) {
        value = value << 8 | static_cast<std::uint8_t>(text[i]);
    }
    return value;
}

bool is_damaged_inode(std::string_view entry_key, std::string_view value) {
    return key::parse(entry_key).kind == key::Kind::kInode && decode_inode(as_bytes(value)).damaged;
}

}  // namespace

Catalog::Catalog(const std::string& scratch_directory)
    : entries_(scratch_directory, kEntriesMemory), runs_(scratch_directory, kRunsMemory) {}

void Catalog::add_inode(std::uint64_t ino, const Inode& inode) {
    entries_.add(key::inode(ino), as_text(encode(inode)));
}

void Catalog::add_dirent(std::uint64_t directory, std::string_view name, const Dirent& dirent) {
    entries_.add(key::dirent(directory, name), as_text(encode(dirent)));
}

void Catalog::add_xattr(std::uint64_t ino, std::string_view name, const Xattr& xattr) {
    entries_.add(key::xattr(ino, name), as_text(encode(xattr)));
}

void Catalog::add_user(std::uint32_t uid, std::string_view name) {
    entries_.add(key::user(uid), as_text(encode_owner_name(name)));
}

void Catalog::add_group(std::uint32_t gid, std::string_view name) {
    entries_.add(key::group(gid), as_text(encode_owner_name(name)));
}

void Catalog::add_run(std::uint64_t ino, const Run& run) {
    std::string sort_key;
    append_big_endian(sort_key, ino);
    append_big_endian(sort_key, run.offset);
    const SpilledRun spilled{run.length, run.pack, run.first, run.skip, run.count, run.flags};
    runs_.add(sort_key, {reinterpret_cast<const char*>(&spilled), sizeof spilled});
}

void Catalog::next_run(PendingRun& pending) {
    std::string_view sort_key;
    std::string_view value;
    pending.valid = runs_.next(sort_key, value);
    if (!pending.valid) {
        return;
    }
    SpilledRun spilled;
    std::memcpy(&spilled, value.data(), sizeof spilled);
    pending.ino = read_big_endian(sort_key);
    pending.run =
        Run{read_big_endian(sort_key.substr(8)), spilled.length, spilled.pack, spilled.first, spilled.skip, spilled.count, spilled.flags};
}

Bytes Catalog::with_runs(std::uint64_t ino, std::string_view value, PendingRun& pending, NodeWriter& nodes) {
    Inode inode = decode_inode(as_bytes(value));
    MapBuilder map(nodes);
    std::uint64_t covered = 0;
    for (; pending.valid && pending.ino == ino; next_run(pending)) {
        if (pending.run.end() <= covered) {
            continue;  // drained twice: one of very many hard links
        }
        if (pending.run.offset < covered) {
            throw Error::failed("internal error: ranges of inode " + std::to_string(ino) + " overlap at " +
                                std::to_string(pending.run.offset));
        }
        map.add(pending.run);
        covered = pending.run.end();
    }
    auto result = map.finish();
    inode.runs = std::move(result.inline_runs);
    inode.map = result.root;
    inode.run_count = result.run_count;
    return encode(inode);
}

TreeRoot Catalog::build(NodeWriter& nodes) {
    TreeBuilder tree(nodes);
    PendingRun pending;
    next_run(pending);
    std::string last_key;
    std::string last_value;
    const auto store_last = [&] {
        const auto parts = key::parse(last_key);
        if (parts.kind == key::Kind::kInode && pending.valid && pending.ino == parts.ino) {
            tree.add(last_key, with_runs(parts.ino, last_value, pending, nodes));
        } else {
            tree.add(last_key, as_bytes(last_value));
        }
    };
    std::string_view entry_key;
    std::string_view value;
    for (std::uint64_t count = 0; entries_.next(entry_key, value); ++count) {
        if (count % kInterruptInterval == 0) {
            interrupt::throw_if_interrupted();
        }
        if (entry_key == last_key) {
            if (is_damaged_inode(entry_key, last_value)) {
                last_value = value;  // another name of the file could be read
            }
            continue;
        }
        if (!last_key.empty()) {
            store_last();
        }
        last_key = entry_key;
        last_value = value;
    }
    if (!last_key.empty()) {
        store_last();
    }
    if (pending.valid) {
        throw Error::failed("internal error: file data was stored for inode " + std::to_string(pending.ino) + ", which has no record");
    }
    return tree.finish();
}

}  // namespace nodesnap
