#include "snapshot/drain/catalog.h"

#include <cstring>

#include "platform/error.h"
#include "platform/interrupt.h"
#include "snapshot/repository/map_editor.h"
#include "snapshot/repository/pack.h"
#include "snapshot/repository/run_cut.h"
#include "snapshot/repository/tree_editor.h"

namespace nodesnap {
namespace {

constexpr std::size_t kEntriesMemory = 16U << 20;
constexpr std::size_t kRunsMemory = 8U << 20;
constexpr std::uint64_t kInterruptInterval = 4096;  // entries between looks at the flag

// What an entry of the sorter says of its key. Those of a whole inode have its number alone as their key, and so come before the records
// that hang on it.
enum Tag : char {
    kPut = 'P',
    kPutEdited = 'E',      // an inode's record; its map is the parent's, edited
    kPutUnreadable = 'U',  // the record of an inode that can't be read; its map is what was stored of it earlier
    kDrop = 'D',
    kReplaceInode = 'R',  // record and attributes go; new ones follow
    kDropInode = 'X',     // all that hangs on it goes
};

constexpr std::uint32_t kCut = 1U << 31;  // among the flags of a gathered run: nothing is there any more

const std::string kFirstKey(1, '\0');
const std::string kBehindAllKeys(9, '\xff');

std::string_view as_text(std::span<const std::byte> bytes) {
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

std::string big_endian(std::uint64_t value) {
    std::string text(sizeof value, '\0');
    for (std::size_t i = 0; i < sizeof value; ++i) {
        text[i] = static_cast<char>(value >> (56 - 8 * i));
    }
    return text;
}

std::uint64_t read_big_endian(std::string_view text) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof value; ++i) {
        value = value << 8 | static_cast<std::uint8_t>(text[i]);
    }
    return value;
}

}  // namespace

Catalog::Catalog(const std::string& scratch_directory)
    : entries_(scratch_directory, kEntriesMemory), runs_(scratch_directory, kRunsMemory) {}

void Catalog::add_entry(std::string_view key, char tag, std::span<const std::byte> value) {
    std::string tagged(1, tag);
    tagged += as_text(value);
    entries_.add(key, tagged);
}

void Catalog::add_inode(std::uint64_t ino, const Inode& inode) {
    add_inode(ino, encode(inode));
}

void Catalog::add_inode(std::uint64_t ino, std::span<const std::byte> encoded) {
    add_entry(big_endian(ino), kReplaceInode, {});
    add_entry(key::inode(ino), kPut, encoded);
}

void Catalog::add_unreadable(std::uint64_t ino, const Inode& inode) {
    add_entry(big_endian(ino), kReplaceInode, {});
    add_entry(key::inode(ino), kPutUnreadable, encode(inode));
}

void Catalog::edit_inode(std::uint64_t ino, const Inode& inode) {
    add_entry(big_endian(ino), kReplaceInode, {});
    add_entry(key::inode(ino), kPutEdited, encode(inode));
}

void Catalog::add_dirent(std::uint64_t directory, std::string_view name, const Dirent& dirent) {
    add_entry(key::dirent(directory, name), kPut, encode(dirent));
}

void Catalog::add_xattr(std::uint64_t ino, std::string_view name, const Xattr& xattr) {
    add_xattr(key::xattr(ino, name), encode(xattr));
}

void Catalog::add_xattr(std::string_view key, std::span<const std::byte> encoded) {
    add_entry(key, kPut, encoded);
}

void Catalog::add_user(std::uint32_t uid, std::string_view name) {
    add_entry(key::user(uid), kPut, encode_owner_name(name));
}

void Catalog::add_group(std::uint32_t gid, std::string_view name) {
    add_entry(key::group(gid), kPut, encode_owner_name(name));
}

void Catalog::drop_dirent(std::uint64_t directory, std::string_view name) {
    add_entry(key::dirent(directory, name), kDrop, {});
}

void Catalog::drop_inode(std::uint64_t ino) {
    add_entry(big_endian(ino), kDropInode, {});
}

void Catalog::add_run(std::uint64_t ino, const Run& run) {
    const SpilledRun spilled{run.length, run.pack, run.first, run.skip, run.count, run.flags};
    runs_.add(big_endian(ino) + big_endian(run.offset), {reinterpret_cast<const char*>(&spilled), sizeof spilled});
}

void Catalog::cut(std::uint64_t ino, std::uint64_t offset, std::uint64_t end) {
    Run run;
    run.offset = offset;
    run.length = end - offset;
    run.flags = kCut;
    add_run(ino, run);
}

// Merges the sorted entries into the parent's tree.
class Catalog::Build {
public:
    Build(Catalog& catalog, const Repository& repository, const Manifest* parent, bool edits, NodeWriter& nodes)
        : catalog_(catalog),
          repository_(repository),
          nodes_(nodes),
          tree_(repository.nodes(), parent != nullptr ? parent->tree : TreeRoot{}, nodes) {
        edits_ = edits;
        if (edits) {
            result_.totals.files = parent->totals.files;
            result_.totals.directories = parent->totals.directories;
            result_.totals.others = parent->totals.others;
            result_.totals.logical_bytes = parent->totals.logical_bytes;
            result_.totals.data_bytes = parent->totals.data_bytes;
        } else {
            tree_.erase(kFirstKey, kBehindAllKeys);
        }
    }

    Result run() {
        next_run();
        std::string_view key;
        std::string_view value;
        for (std::uint64_t count = 0; catalog_.entries_.next(key, value); ++count) {
            if (count % kInterruptInterval == 0) {
                interrupt::throw_if_interrupted();
            }
            if (key != key_) {
                apply();
                key_ = key;
                value_ = value;
            } else if (supersedes(value)) {
                value_ = value;
            }
        }
        apply();
        if (pending_) {
            throw Error::failed("internal error: file data was stored for inode " + std::to_string(pending_ino_) + ", which has no record");
        }
        result_.tree = tree_.finish();
        return result_;
    }

private:
    // Whether a later entry of the key that waits counts instead of it.
    bool supersedes(std::string_view later) const {
        if (value_.front() == kReplaceInode) {
            return later.front() == kDropInode;
        }
        if (value_.front() == kDrop) {
            return true;
        }
        // Another name of a file could be read.
        if (value_.front() == kPutUnreadable || later.front() == kPutUnreadable) {
            return value_.front() == kPutUnreadable;
        }
        return value_.front() == kPut && key::parse(key_).kind == key::Kind::kInode && decode_inode(as_bytes(value_).subspan(1)).damaged;
    }

    void apply() {
        if (key_.empty()) {
            return;
        }
        const auto content = as_bytes(value_).subspan(1);
        switch (value_.front()) {
            case kReplaceInode:
            case kDropInode:
                if (!edits_) {
                    break;
                }
                begin_inode(read_big_endian(key_), value_.front() == kDropInode);
                break;
            case kDrop:
                tree_.erase(key_, key_ + '\0');
                break;
            case kPutEdited:
                put_inode(content, old_);
                break;
            case kPutUnreadable:
                put_unreadable(content);
                break;
            default:
                if (key::parse(key_).kind == key::Kind::kInode) {
                    put_inode(content, std::nullopt);
                } else {
                    tree_.put(key_, content);
                }
        }
    }

    void begin_inode(std::uint64_t ino, bool drop) {
        const std::string record = key::inode(ino);
        old_.reset();
        if (const auto old = tree_.old_value(record)) {
            old_ = decode_inode(*old);
            old_bytes_ = data_bytes_of(repository_, *old_);
            count(*old_, old_bytes_, false);
        }
        tree_.erase(record, drop ? key::inode(ino + 1) : key::dirent(ino));
    }

    void put_inode(std::span<const std::byte> value, const std::optional<Inode>& base) {
        const std::uint64_t ino = key::parse(key_).ino;
        Inode inode = decode_inode(value);
        std::uint64_t bytes = inode.content.size();
        if (inode.type != FileType::kRegular) {
            skip_runs(ino);
        }
        if (base || (pending_ && pending_ino_ == ino)) {
            bytes = take_map(ino, inode, base);
        } else if (inode.data_bytes) {  // taken over with its map
            bytes = *inode.data_bytes;
        } else {
            bytes += bytes_in(inode.runs);
        }
        if (inode.run_count != 0) {
            inode.data_bytes = bytes;
        }
        count(inode, bytes, true);
        tree_.put(key_, encode(inode));
    }

    // An earlier drain of the same snapshot may have stored parts of it, but neither how long it is nor where its holes are is known. A
    // lost page at its end stands for what may have followed.
    void put_unreadable(std::span<const std::byte> value) {
        const std::uint64_t ino = key::parse(key_).ino;
        Inode inode = decode_inode(value);
        std::uint64_t bytes = 0;
        if (pending_ && pending_ino_ == ino) {
            bytes = take_parts(ino, inode);
            inode.data_bytes = bytes;
        }
        count(inode, bytes, true);
        tree_.put(key_, encode(inode));
    }

    std::uint64_t take_parts(std::uint64_t ino, Inode& inode) {
        static const Inode kEmpty;
        MapEditor map(repository_.nodes(), repository_.packs(), kEmpty, nodes_);
        const auto lose = [&map](std::uint64_t offset, std::uint64_t end) {
            Run lost;
            lost.offset = offset;
            lost.length = end - offset;
            lost.flags = Run::kDamagedSource;
            map.replace(lost);
        };
        std::uint64_t covered = 0;
        for (; pending_ && pending_ino_ == ino; next_run()) {
            if (run_.end() <= covered) {
                continue;
            }
            if (run_.offset > covered) {
                lose(covered, run_.offset);
                covered = run_.offset;
            }
            map.replace(part_of(run_, covered - run_.offset, run_.end() - covered, repository_.packs()));
            covered = run_.end();
        }
        inode.size = covered + kPackAlignment;
        lose(covered, inode.size);
        return set_map(map, inode);
    }

    // Tells the bytes of data in it.
    static std::uint64_t set_map(MapEditor& map, Inode& inode) {
        auto result = map.finish();
        inode.runs = std::move(result.inline_runs);
        inode.map = result.root;
        inode.run_count = result.run_count;
        return map.counts().data_added - map.counts().data_removed;
    }

    // Gives the inode the map that the gathered runs make of `base`'s, and tells its bytes of data.
    std::uint64_t take_map(std::uint64_t ino, Inode& inode, const std::optional<Inode>& base) {
        static const Inode kEmpty;
        MapEditor map(repository_.nodes(), repository_.packs(), base ? *base : kEmpty, nodes_);
        std::uint64_t covered = 0;
        for (; pending_ && pending_ino_ == ino; next_run()) {
            if (run_.end() <= covered) {
                continue;  // drained twice: one of very many hard links
            }
            // Part of it was stored by a drain that was cut off: the same bytes.
            const std::uint64_t from = std::max(run_.offset, covered);
            covered = run_.end();
            if (run_.flags == kCut) {
                map.cut(from, run_.end());
            } else {
                map.replace(part_of(run_, from - run_.offset, run_.end() - from, repository_.packs()));
            }
        }
        const std::uint64_t old_bytes = base ? old_bytes_ : 0;
        return old_bytes + set_map(map, inode);
    }

    // Of a file of a live directory that was removed, and gave its number to what is none, while both were met.
    void skip_runs(std::uint64_t ino) {
        while (pending_ && pending_ino_ == ino) {
            next_run();
        }
    }

    void next_run() {
        std::string_view key;
        std::string_view value;
        pending_ = catalog_.runs_.next(key, value);
        if (pending_) {
            SpilledRun spilled;
            std::memcpy(&spilled, value.data(), sizeof spilled);
            pending_ino_ = read_big_endian(key);
            run_ = Run{
                read_big_endian(key.substr(8)), spilled.length, spilled.pack, spilled.first, spilled.skip, spilled.count, spilled.flags};
        }
    }

    static std::uint64_t bytes_in(const std::vector<Run>& runs) {
        std::uint64_t bytes = 0;
        for (const Run& run : runs) {
            bytes += run.flags == Run::kNone ? run.length : 0;
        }
        return bytes;
    }

    static std::uint64_t data_bytes_of(const Repository& repository, const Inode& inode) {
        if (inode.data_bytes) {
            return *inode.data_bytes;
        }
        std::uint64_t bytes = inode.type == FileType::kRegular ? inode.content.size() : 0;
        MapCursor map(repository.nodes(), inode);
        for (Run run; map.next(run);) {
            bytes += run.flags == Run::kNone ? run.length : 0;
        }
        return bytes;
    }

    // Adds to the totals, or takes from them.
    void count(const Inode& inode, std::uint64_t bytes, bool add) {
        const auto change = [add](std::uint64_t& total, std::uint64_t by) { total = add ? total + by : total - std::min(total, by); };
        Manifest::Totals& totals = result_.totals;
        switch (inode.type) {
            case FileType::kRegular:
                change(totals.files, 1);
                change(totals.logical_bytes, inode.size);
                change(totals.data_bytes, bytes);
                break;
            case FileType::kDirectory:
                change(totals.directories, 1);
                break;
            default:
                change(totals.others, 1);
        }
    }

    Catalog& catalog_;
    const Repository& repository_;
    NodeWriter& nodes_;
    TreeEditor tree_;
    bool edits_ = false;
    Result result_;
    std::string key_;           // waits for others with the same key
    std::string value_;         // with its tag
    std::optional<Inode> old_;  // of the inode whose records come
    std::uint64_t old_bytes_ = 0;
    bool pending_ = false;
    std::uint64_t pending_ino_ = 0;
    Run run_;
};

Catalog::Result Catalog::build(const Repository& repository, const Manifest* parent, bool edits, NodeWriter& nodes) {
    return Build(*this, repository, parent, edits, nodes).run();
}

}  // namespace nodesnap
