#include "snapshot/prune/merge.h"

#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "io/transfer.h"
#include "io/units.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/host.h"
#include "platform/interrupt.h"
#include "snapshot/prune/data_packs.h"
#include "snapshot/prune/fragments.h"
#include "snapshot/repository/external_sorter.h"
#include "snapshot/repository/map_editor.h"
#include "snapshot/repository/pack_stock.h"
#include "snapshot/repository/revisions.h"
#include "snapshot/repository/tree_editor.h"
#include "snapshot/run_reader.h"

namespace nodesnap {
namespace {

constexpr std::size_t kSorterBytes = 8U << 20;
constexpr std::uint64_t kSpareBytes = 64U << 20;  // for metadata, and for what else is written there
constexpr std::uint64_t kAffordableShare = 4;     // a quarter of the free space

// The newest that is good, if its manifest may be replaced.
std::optional<BackupRevisions> newest_backup(const Repository& repository, const std::set<SessionId>& without = {}) {
    std::optional<Manifest> newest;
    repository.for_each_backup_backwards([&](const BackupEntry& entry) {
        if (entry.manifest && !entry.manifest->damaged && !without.contains(entry.manifest->id)) {
            newest = entry.manifest;
        }
        return !newest;
    });
    std::optional<BackupRevisions> found;
    if (newest && newest->may_rewrite) {
        for_each_manifest_names(repository.target(), [&](std::span<const layout::ManifestName> names) {
            if (names.front().same_backup(newest->name)) {
                found = load_revisions(repository, names, {});
            }
        });
    }
    const bool usable = found && found->best && found->best->whole && found->best_is_highest() && found->best->manifest->id == newest->id;
    return usable ? std::move(found) : std::nullopt;
}

// Files with maps of their own: those of few runs are restored fast enough.
void for_each_mapped_file(const Repository& repository, const TreeRoot& tree,
                          const std::function<void(std::uint64_t ino, const Inode&)>& each) {
    TreeCursor cursor(repository.nodes(), tree);
    for (TreeEntry entry; cursor.next(entry);) {
        throw_if_interrupted();
        const key::Parts parts = key::parse(entry.key);
        if (parts.kind != key::Kind::kInode) {
            continue;
        }
        const Inode inode = decode_inode(entry.value);
        if (inode.type == FileType::kRegular && inode.map) {
            each(parts.ino, inode);
        }
    }
}

MergeResult plan_of(const Repository& repository, const Manifest& backup, Progress& progress) {
    progress.phase = "looking for fragmented files";
    MergeResult result;
    for_each_mapped_file(repository, backup.tree, [&](std::uint64_t, const Inode& inode) {
        const std::uint64_t before = result.bytes;
        for_each_fragment(repository.nodes(), inode, [&](const Fragment& fragment) {
            result.bytes += fragment.bytes();
            result.runs_before += fragment.runs;
            result.runs_after += fragment.ranges.size();
        });
        result.files += result.bytes != before ? 1 : 0;
    });
    return result;
}

// What stays as it is since it would take too much of the free space: all or nothing.
std::optional<MergeResult> left_of(const Repository& repository, MergeWhen when, std::uint64_t bytes) {
    const auto free = repository.target().free_bytes();
    const std::uint64_t share = when == MergeWhen::kAffordable ? kAffordableShare : 1;
    if (bytes == 0 || !free || *free / share >= bytes + kSpareBytes) {
        return std::nullopt;
    }
    MergeResult left;
    left.left_bytes = bytes;
    left.free_bytes = *free;
    left.needed_bytes = bytes + kSpareBytes;
    return left;
}

class Merge {
public:
    Merge(Repository& repository, const Lease& lease, MergeWhen when, const std::string& scratch_directory, Throttle& throttle,
          Report& report, Progress& progress)
        : repository_(repository),
          lease_(lease),
          when_(when),
          throttle_(throttle),
          report_(report),
          progress_(progress),
          ring_(blocking_ring()),
          edits_(scratch_directory, kSorterBytes) {}

    MergeResult run() {
        const auto revisions = newest_backup(repository_);
        if (!revisions) {
            return {};
        }
        // It may refer to segments that the newest backup wouldn't refer to any more.
        if (!repository_.drafts().empty()) {
            leave("while a backup that was cut off builds on it: run that again first");
            return {};
        }
        // What a replacement that was killed has left: from here on only the newest is known to be whole.
        remove_revisions(repository_, lease_, revisions->others);
        const Manifest& backup = *revisions->best->manifest;
        result_ = plan_of(repository_, backup, progress_);
        if (result_.bytes == 0) {
            return {};
        }
        if (auto left = left_of(repository_, when_, result_.bytes)) {
            leave("since " + repository_.target().describe() + " has too little space: " + human_bytes(left->needed_bytes) +
                  " are needed, and " + human_bytes(left->free_bytes) + " are free");
            return std::move(*left);
        }
        begin_session(*revisions);
        try {
            merge(*revisions, backup);
        } catch (const Error& error) {
            give_up();
            if (published_ || !is_space_error(error.error_number())) {
                throw;
            }
            leave("since there was an error: " + error.message());
            return {};
        }
        repository_.end_session(session_.id);
        return std::move(result_);
    }

private:
    void leave(const std::string& why) {
        if (when_ == MergeWhen::kAlways) {
            report_.warn("fragmented files of the newest backup aren't merged " + why);
        }
    }

    PackId next_pack() { return PackId::of(session_.id, counter_++); }

    void begin_session(const BackupRevisions& revisions) {
        session_.id = SessionId::random();
        session_.manifest = revisions.best->name;
        session_.manifest.revision = revisions.highest.revision + 1;
        session_.epoch = lease_.epoch();
        session_.host = host_name();
        session_.snapshot_backend = "none";
        repository_.begin_session(lease_, session_);
    }

    // As well as that can be done; whoever takes the lease next does the rest.
    void give_up() noexcept {
        try {
            if (!published_) {
                repository_.abandon_session(lease_, session_, {});
            }
        } catch (const std::exception&) {
        }
    }

    void merge(const BackupRevisions& revisions, const Manifest& backup) {
        progress_.phase = "merging fragmented files";
        progress_.bytes_total = result_.bytes;
        progress_.totals_final = true;
        result_ = {};
        DataPackWriter data(
            repository_, lease_, [this] { return next_pack(); }, throttle_);
        for_each_mapped_file(repository_, backup.tree, [&](std::uint64_t ino, const Inode& inode) { copy_file(ino, inode, data); });
        data.finish();
        fault::step("merge.data-durable");
        if (result_.bytes == 0) {
            return;  // nothing could be read
        }
        lease_.check();
        NodeWriter nodes(
            repository_.target(), repository_.info().uuid, repository_.hasher(), [this] { return next_pack(); }, kEntriesPerNodeLimit,
            &throttle_);
        Manifest changed = backup;
        changed.tree = edit_tree(backup.tree, nodes);
        nodes.finish();
        changed.packs.insert(changed.packs.end(), data.packs().begin(), data.packs().end());
        for (const PackId& pack : nodes.packs()) {
            changed.packs.push_back(pack);
        }
        const std::vector<std::uint64_t> added = sizes_of(repository_, std::span(changed.packs).subspan(backup.packs.size()));
        changed.pack_bytes.resize(backup.packs.size());
        changed.pack_bytes.insert(changed.pack_bytes.end(), added.begin(), added.end());
        changed.totals.stored_bytes += data.stored_bytes() + nodes.stored_bytes();
        fault::step("merge.packs-durable");
        published_ = true;  // or may be
        replace_revisions(repository_, lease_, revisions, std::move(changed));
        fault::step("merge.published");
        result_.superseded = backup;
    }

    void copy_file(std::uint64_t ino, const Inode& inode, DataPackWriter& data) {
        std::optional<MapReader> reader;
        bool merged = false;
        bool told = false;
        for_each_fragment(repository_.nodes(), inode, [&](const Fragment& fragment) {
            throw_if_interrupted();
            ring_.wait(pace(ring_, throttle_, fragment.bytes()));
            try {
                if (!reader) {
                    reader.emplace(repository_, inode, "inode " + std::to_string(ino));
                }
                read(*reader, fragment);
            } catch (const Error& error) {
                if (!is_loss(error)) {
                    throw;
                }
                // The rest of it is of use all the same: it stays where it is.
                if (!std::exchange(told, true)) {
                    report_.warn("a part of a fragmented file isn't merged: " + error.message());
                }
                return;
            }
            store(ino, fragment, data);
            merged = true;
        });
        result_.files += merged ? 1 : 0;
    }

    void read(MapReader& reader, const Fragment& fragment) {
        content_.resize(fragment.bytes());
        std::size_t at = 0;
        for (const DataRange& range : fragment.ranges) {
            reader.read(std::span(content_).subspan(at, range.length), range.offset);
            at += range.length;
        }
    }

    void store(std::uint64_t ino, const Fragment& fragment, DataPackWriter& data) {
        std::size_t at = 0;
        for (const DataRange& range : fragment.ranges) {
            const SegmentRef segment = data.add(std::span(content_).subspan(at, range.length));
            at += range.length;
            Run run;
            run.offset = range.offset;
            run.length = range.length;
            run.pack = segment.pack;
            run.first = segment.number;
            run.count = 1;
            std::string value(sizeof(run), '\0');
            std::memcpy(value.data(), &run, sizeof(run));
            edits_.add(key::inode(ino) + key::inode(range.offset), value);
        }
        result_.bytes += fragment.bytes();
        result_.runs_before += fragment.runs;
        result_.runs_after += fragment.ranges.size();
        progress_.bytes_done.fetch_add(fragment.bytes(), std::memory_order_relaxed);
    }

    TreeRoot edit_tree(const TreeRoot& old, NodeWriter& nodes) {
        TreeEditor tree(repository_.nodes(), old, nodes);
        std::string_view edit, value;
        bool more = edits_.next(edit, value);
        while (more) {
            const std::string file(edit.substr(0, key::inode(0).size()));
            Inode inode = decode_inode(tree.old_value(file).value());
            MapEditor map(repository_.nodes(), repository_.packs(), inode, nodes);
            for (; more && edit.starts_with(file); more = edits_.next(edit, value)) {
                Run run;
                std::memcpy(&run, value.data(), sizeof(run));
                map.replace(run, true);
            }
            MapBuilder::Result result = map.finish();
            inode.runs = std::move(result.inline_runs);
            inode.map = result.root;
            inode.run_count = result.run_count;
            tree.put(file, encode(inode));
        }
        return tree.finish();
    }

    Repository& repository_;
    const Lease& lease_;
    const MergeWhen when_;
    Throttle& throttle_;
    Report& report_;
    Progress& progress_;
    Ring ring_;
    ExternalSorter edits_;  // by file and offset
    SessionRecord session_;
    std::uint32_t counter_ = 0;
    bool published_ = false;
    Bytes content_;  // of one fragment
    MergeResult result_;
};

}  // namespace

MergeResult plan_merge(const Repository& repository, MergeWhen when, Progress& progress, const std::set<SessionId>& without) {
    const auto revisions = when == MergeWhen::kNever ? std::nullopt : newest_backup(repository, without);
    if (!revisions) {
        return {};
    }
    MergeResult planned = plan_of(repository, *revisions->best->manifest, progress);
    if (auto left = left_of(repository, when, planned.bytes)) {
        return std::move(*left);
    }
    return planned;
}

MergeResult run_merge(Repository& repository, const Lease& lease, MergeWhen when, const std::string& scratch_directory, Throttle& throttle,
                      Report& report, Progress& progress) {
    if (when == MergeWhen::kNever) {
        return {};
    }
    return Merge(repository, lease, when, scratch_directory, throttle, report, progress).run();
}

}  // namespace nodesnap
