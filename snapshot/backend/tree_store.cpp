#include "snapshot/backend/tree_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>
#include <vector>

#include "platform/btrfs.h"
#include "platform/directory_stream.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/inode_flags.h"
#include "platform/xattr.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/restore/remove_tree.h"

namespace nodesnap {
namespace {

constexpr const char* kUnfinished = ".unfinished";
constexpr const char* kRecord = "snapshot.json";
constexpr std::string_view kKindEnd = "-snapshot";

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

// They are for messages, which name a few.
void put_excludes(const std::vector<std::string>& patterns, nlohmann::ordered_json& out) {
    constexpr std::size_t kMost = 50;
    constexpr std::size_t kLongest = 200;
    for (std::size_t i = 0; i < std::min(patterns.size(), kMost); ++i) {
        out["excludes"].push_back(
            member::from_path(patterns[i].size() <= kLongest ? patterns[i] : patterns[i].substr(0, kLongest) + "..."));
    }
}

std::vector<std::string> excludes_in(const nlohmann::ordered_json& in, const std::string& name) {
    std::vector<std::string> patterns;
    if (const auto found = in.find("excludes"); found != in.end()) {
        for (const auto& each : *found) {
            patterns.push_back(member::path({{"excludes", each}}, "excludes", name));
        }
    }
    return patterns;
}

Bytes encode(const TreeRecord& record) {
    JsonObject object;
    object.kind = record.kind + std::string(kKindEnd);
    auto& out = object.members;
    out["id"] = record.id.text();
    out["name"] = member::from_path(record.name);
    out["node_directory"] = member::from_path(record.node_directory);
    out["file_system_uuid"] = record.file_system_uuid;
    out["root_ino"] = member::to_hex64(record.root_ino);
    out["tree_ino"] = member::to_hex64(record.tree_ino);
    out["tree_generation"] = member::to_hex64(record.tree_generation);
    out["taken_ns"] = record.taken_ns;
    put_excludes(record.excludes, out);
    return encode_json_object(object);
}

TreeRecord decode(std::span<const std::byte> bytes, const std::string& kind, const std::string& name) {
    const JsonObject object = decode_json_object(bytes, kind + std::string(kKindEnd), name);
    const auto& in = object.members;
    TreeRecord record;
    record.kind = kind;
    record.id = member::uuid(in, "id", name);
    record.name = member::path(in, "name", name);
    record.node_directory = member::path(in, "node_directory", name);
    record.file_system_uuid = member::text(in, "file_system_uuid", name);
    record.root_ino = member::hex64(in, "root_ino", name);
    record.tree_ino = member::hex64(in, "tree_ino", name);
    record.tree_generation = member::hex64(in, "tree_generation", name);
    record.taken_ns = member::integer(in, "taken_ns", name);
    record.excludes = excludes_in(in, name);
    return record;
}

// nullopt where there is none that can be read: then there is no snapshot.
std::optional<TreeRecord> load_record(int directory, const std::string& shown) {
    const int fd = try_open_long(directory, kRecord, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (fd == -ENOENT || fd == -ELOOP) {
        return std::nullopt;
    }
    if (fd < 0) {
        throw Error::system("open", shown + "/" + kRecord, -fd);
    }
    const FileDescriptor file(fd);
    Bytes bytes(kJsonObjectLimit + 1);
    bytes.resize(pread_some(fd, bytes, 0, shown));
    for (const char* kind : {"reflink", "hardlink", kKeptTree}) {
        try {
            return decode(bytes, kind, shown + "/" + kRecord);
        } catch (const Error& error) {
            if (error.error_number() != 0) {
                throw;
            }
        }
    }
    return std::nullopt;
}

bool is_ours(const FileStatus& status) {
    return S_ISDIR(status.stx_mode) && status.stx_uid == ::geteuid();
}

void make_parts_in(int directory, const std::string& shown) {
    inherit_nothing(directory, 0700, shown);
    for (const char* part : {kTreeName, kLinksName}) {
        if (const int made = entry::make_directory(directory, part, 0700); made != 0) {
            throw Error::system("create directory", shown + "/" + part, made);
        }
    }
}

}  // namespace

bool is_tree_of(int tree, const TreeRecord& record) {
    return tree >= 0 && stat_fd(tree).stx_ino == record.tree_ino && inode_generation(tree) == record.tree_generation;
}

TreeStore::TreeStore(FileDescriptor folder, std::string shown) : folder_(std::move(folder)), shown_(std::move(shown)) {}

FileDescriptor TreeStore::unfinished(bool make) const {
    return open_own_folder(folder_.get(), kUnfinished, shown_ + "/" + kUnfinished, make);
}

// Names that were given and taken, in both directories. On btrfs fsync of one may not take the other along.
void TreeStore::make_names_durable(int other) const {
    if (btrfs::is_btrfs(folder_.get())) {
        btrfs::commit(folder_.get(), shown_);
        return;
    }
    sync_directory(other, shown_);
    sync_directory(folder_.get(), shown_);
}

void TreeStore::make_names_durable() const {
    make_names_durable(unfinished(true).get());
}

FileDescriptor TreeStore::make_parts(int above, const std::string& name, const std::string& shown) {
    if (const int failed = entry::make_directory(above, name, 0700); failed != 0) {
        throw Error::system("create directory", shown, failed);
    }
    FileDescriptor directory = open_at(above, name, kDirectory);
    make_parts_in(directory.get(), shown);
    return directory;
}

void TreeStore::write_record(int directory, const TreeRecord& record, const std::string& shown) {
    const Bytes bytes = encode(record);
    const FileDescriptor file = open_at(directory, kRecord, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    pwrite_all(file.get(), bytes, 0, shown);
    sync_file(file.get(), shown);
    sync_directory(directory, shown);
}

bool TreeStore::adopt(int above, const std::string& from, const std::string& name) {
    if (!rename_no_replace(above, from, folder_.get(), name)) {
        return false;
    }
    make_names_durable(above);
    return true;
}

FileDescriptor TreeStore::begin(const std::string& name) {
    const std::string shown = shown_ + "/" + kUnfinished + "/" + name;
    const FileDescriptor above = unfinished(true);
    const int failed = entry::make_directory(above.get(), name, 0700);
    if (failed == EEXIST) {
        throw Error::refused("a snapshot is being made, or removed, at " + shown, "wait until that has ended");
    }
    if (failed != 0) {
        throw Error::system("create directory", shown, failed);
    }
    FileDescriptor directory = open_at(above.get(), name, kDirectory);
    const auto there = stat_at(above.get(), name);
    if (entry::lock_shared(directory.get()) != 0 || !there || there->stx_ino != stat_fd(directory.get()).stx_ino) {
        throw Error::failed("the unfinished snapshot " + shown + " was removed by another program as soon as it was begun", "try again");
    }
    make_parts_in(directory.get(), shown);
    return directory;
}

void TreeStore::finish(const std::string& name, int directory, const TreeRecord& record) {
    const std::string shown = shown_ + "/" + name;
    remove_tree(directory, kLinksName, shown);
    CloneIndex::build(open_at(directory, kTreeName, kDirectory).get(), directory, shown);
    sync_file_system(directory, shown);
    fault::step("snapshot.tree-durable");
    write_record(directory, record, shown);
    fault::step("snapshot.record-durable");
    if (!rename_no_replace(unfinished(true).get(), name, folder_.get(), name)) {
        throw Error::failed("cannot keep the snapshot " + shown + ": there is something of its name already");
    }
    make_names_durable();
}

void TreeStore::remove(const std::string& name, FileDescriptor locked) {
    const std::string shown = shown_ + "/" + name;
    if (open(name)) {
        const FileDescriptor above = unfinished(true);
        remove_unfinished(above.get(), name);  // what an earlier removal left
        if (!rename_no_replace(folder_.get(), name, above.get(), name)) {
            throw Error::failed("cannot remove the snapshot " + shown + ": another program is doing so");
        }
        make_names_durable();
        fault::step("snapshot.removed");
    }
    locked.reset();
    if (const FileDescriptor above = unfinished(false)) {
        remove_unfinished(above.get(), name);
    }
}

void TreeStore::remove_unfinished(int above, const std::string& name) const {
    remove_in(above, name, shown_ + "/" + kUnfinished + "/" + name);
}

void TreeStore::remove_in(int above, const std::string& name, const std::string& shown) const {
    const FileDescriptor tree(try_open_long(above, name + "/" + kTreeName, kDirectory));
    if (tree) {
        remove_links(tree.get(), links());
    }
    remove_tree(above, name, shown);
}

void TreeStore::rename_unfinished(const std::string& from, const std::string& to) {
    const FileDescriptor above = unfinished(true);
    if (!rename_no_replace(above.get(), from, above.get(), to)) {
        throw Error::refused("a snapshot is being made, or removed, at " + shown_ + "/" + kUnfinished + "/" + to,
                             "wait until that has ended");
    }
}

LinkIndexes TreeStore::links() const {
    LinkIndexes indexes;
    for_each([&](const std::string&, const StoredTree& found) {
        LinkIndex index(found.directory.get(), true);
        if (index.exists()) {
            indexes.add(std::move(index));
        }
    });
    return indexes;
}

void TreeStore::rename(const std::string& from, const std::string& to) {
    if (!rename_no_replace(folder_.get(), from, folder_.get(), to)) {
        throw Error::failed("cannot keep the snapshot " + shown_ + "/" + from + ": there is one of its name already");
    }
    make_names_durable();
}

std::optional<StoredTree> TreeStore::read(int above, const std::string& name, const std::string& shown) {
    const int fd = try_open_long(above, name, kDirectory);
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP) {
        return std::nullopt;
    }
    if (fd < 0) {
        throw Error::system("open the snapshot", shown, -fd);
    }
    StoredTree found;
    found.directory.reset(fd);
    if (!is_ours(stat_fd(fd, shown))) {
        return std::nullopt;
    }
    auto record = load_record(fd, shown);
    if (!record) {
        return std::nullopt;
    }
    found.record = std::move(*record);
    return found;
}

std::optional<StoredTree> TreeStore::open(const std::string& name) const {
    auto found = read(folder_.get(), name, shown_ + "/" + name);
    return found && found->record.name == without_temporary(name) ? std::move(found) : std::nullopt;
}

bool TreeStore::exists(const std::string& name) const {
    return stat_at(folder_.get(), name).has_value();
}

bool TreeStore::is_still_there(const std::string& name, int directory) const {
    const auto status = stat_at(folder_.get(), name);
    const FileStatus opened = stat_fd(directory, name);
    return status && status->stx_ino == opened.stx_ino && device_of(*status) == device_of(opened);
}

void TreeStore::for_each(const std::function<void(const std::string& name, StoredTree found)>& visit) const {
    DirectoryStream stream(open_at(folder_.get(), ".", O_RDONLY | O_DIRECTORY), shown_);
    DirectoryEntry found;
    while (stream.next(found)) {
        if (!is_snapshot_name(found.name)) {
            continue;
        }
        if (auto stored = open(found.name)) {
            visit(found.name, std::move(*stored));
        }
    }
}

void TreeStore::clear_up(const std::function<bool(const std::string& name)>& fits) {
    const FileDescriptor above = unfinished(false);
    if (!above) {
        return;
    }
    std::vector<std::string> left;
    DirectoryStream stream(open_at(above.get(), ".", O_RDONLY | O_DIRECTORY), shown_);
    DirectoryEntry found;
    while (stream.next(found)) {
        if (fits(found.name)) {
            left.push_back(found.name);
        }
    }
    for (const std::string& name : left) {
        const FileDescriptor directory(try_open_long(above.get(), name, kDirectory));
        if (directory && entry::lock_exclusive(directory.get()) == 0) {
            remove_unfinished(above.get(), name);
        }
    }
}

}  // namespace nodesnap
