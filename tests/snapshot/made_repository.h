// A repository in memory with backups made record by record, so that a test can store what no backup would.
#pragma once

#include <fcntl.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/ring.h"
#include "snapshot/repository/pack_stock.h"
#include "snapshot/repository/repository.h"
#include "tests/support/strict_target.h"

namespace nodesnap::test {

// One backup on its way. Its root directory is inode 1.
class MadeBackup {
public:
    static constexpr std::uint64_t kRoot = 1;
    static constexpr std::uint32_t kSegmentBytes = 100'000;  // two blocks

    MadeBackup() : session_(SessionId::random()) { directory(kRoot); }

    void put(const std::string& key, Bytes value) { entries_[key] = std::move(value); }
    void made_at(std::int64_t utc_seconds) { utc_seconds_ = utc_seconds; }
    void erase(const std::string& key) { entries_.erase(key); }
    void inode(std::uint64_t ino, const Inode& inode) { put(key::inode(ino), encode(inode)); }
    void directory(std::uint64_t ino) {
        Inode record;
        record.type = FileType::kDirectory;
        record.mode = 0755;
        inode(ino, record);
    }
    void name(std::uint64_t directory, const std::string& name, std::uint64_t ino, FileType type = FileType::kRegular) {
        put(key::dirent(directory, name), encode(Dirent{ino, type}));
    }
    // A file whose content is `segments` segments from `first` on.
    static Inode file(const PackId& pack, std::uint32_t first, std::uint32_t segments) {
        Inode record;
        record.mode = 0644;
        record.size = std::uint64_t{segments} * kSegmentBytes;
        record.runs = {Run{0, record.size, pack, first, 0, segments, Run::kNone}};
        record.run_count = 1;
        return record;
    }

    // The manifest tells how long the packs are, and that the tree does without some.
    void tells_lengths() { tells_lengths_ = true; }
    void avoids(const PackId& pack) { avoided_.push_back(pack); }

    // Of another backup's, which this one takes data from.
    void refers_to(const PackId& pack) { packs_.push_back(pack); }
    // Stores a data pack of that many segments.
    PackId data_pack(Repository& repository, std::uint32_t segments, std::uint32_t segment_bytes = kSegmentBytes) {
        const PackId id = PackId::of(session_, counter_++);
        PackIndex index(layout::PackKind::kData, id, 0);
        Bytes object = pack_head(repository.info().uuid, layout::PackKind::kData, id, 0);
        for (std::uint32_t number = 0; number < segments; ++number) {
            object.resize((object.size() + kPackAlignment - 1) / kPackAlignment * kPackAlignment);
            const Bytes plain(segment_bytes, static_cast<std::byte>(number + 1));
            std::vector<Checksum> blocks;
            for (std::size_t at = 0; at < plain.size(); at += kChecksumBlock) {
                blocks.push_back(
                    repository.hasher()(std::span(plain).subspan(at, std::min<std::size_t>(kChecksumBlock, plain.size() - at))));
            }
            index.add({object.size(), 0, segment_bytes, segment_bytes, Codec::kNone}, blocks);
            object.insert(object.end(), plain.begin(), plain.end());
        }
        const Bytes tail = pack_tail(repository.info().uuid, index, object.size());
        object.insert(object.end(), tail.begin(), tail.end());
        store(repository.target(), layout::pack({layout::PackKind::kData, id, 0}), object, id.hex());
        packs_.push_back(id);
        return id;
    }

    Manifest publish(Repository& repository) {
        return publish(repository, [this](NodeWriter& nodes) {
            TreeBuilder tree(nodes);
            for (const auto& [key, value] : entries_) {
                tree.add(key, value);
            }
            return tree.finish();
        });
    }
    // The same with a tree of the caller's making, instead of what was put.
    Manifest publish(Repository& repository, const std::function<TreeRoot(NodeWriter&)>& build) {
        Manifest manifest;
        NodeWriter nodes(repository.target(), repository.info().uuid, repository.hasher(),
                         [this] { return PackId::of(session_, counter_++); });
        manifest.tree = build(nodes);
        nodes.finish();
        manifest.packs = packs_;
        for (const PackId& pack : nodes.packs()) {
            manifest.packs.push_back(pack);
        }
        if (tells_lengths_) {
            manifest.pack_bytes = sizes_of(repository, manifest.packs);
        }
        manifest.avoided_packs = avoided_;
        const std::uint64_t sequence = repository.next_sequence();
        const std::int64_t seconds = utc_seconds_.value_or(1'700'000'000 + static_cast<std::int64_t>(sequence) * 3600);
        manifest.id = session_;
        manifest.name = {sequence, seconds, 0};
        manifest.snapshot_time_ns = seconds * 1'000'000'000;
        manifest.finished_time_ns = manifest.snapshot_time_ns;
        manifest.node = repository.info().node;
        manifest.hash_seed = repository.info().hash_seed;
        manifest.repository_created_ns = repository.info().created_ns;
        manifest.root_ino = kRoot;
        LeaseOptions lease_options;
        lease_options.command = "test";
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_options);
        repository.publish(lease, manifest);
        lease.release();
        return manifest;
    }

private:
    static void store(Target& target, const std::string& name, const Bytes& object, const std::string& staging_id) {
        Ring::Options options;
        options.force_blocking = true;
        Ring ring(options);
        const auto writer = target.begin(name, staging_id);
        ring.wait(writer->write(ring, object, 0));
        ring.wait(writer->finish(ring));
    }

    SessionId session_;
    std::optional<std::int64_t> utc_seconds_;
    std::uint32_t counter_ = 0;
    std::map<std::string, Bytes> entries_;
    std::vector<PackId> packs_, avoided_;
    bool tells_lengths_ = false;
};

// A repository with nothing in it, and ways to damage what is put there.
struct MadeRepository {
    std::shared_ptr<StrictTarget> target = StrictTarget::make();

    MadeRepository() { Repository::create(*target, "node1"); }
    Repository open() const {
        return Repository::open(target, [](const Damage&) {});
    }
    // One backup: a directory with two files of three segments each, of one pack, and a small file.
    Manifest add_backup() {
        Repository repository = open();
        MadeBackup backup;
        const PackId pack = backup.data_pack(repository, 6);
        backup.directory(2);
        backup.name(MadeBackup::kRoot, "data", 2, FileType::kDirectory);
        backup.inode(3, MadeBackup::file(pack, 0, 3));
        backup.name(2, "first", 3);
        backup.inode(4, MadeBackup::file(pack, 3, 3));
        backup.name(2, "second", 4);
        Inode small;
        small.content = Bytes(5, std::byte{'x'});
        small.size = 5;
        backup.inode(5, small);
        backup.name(MadeBackup::kRoot, "small", 5);
        return backup.publish(repository);
    }
    void flip(const std::string& object, std::uint64_t offset) const {
        Bytes bytes = target->peek(object);
        bytes.at(offset) ^= std::byte{8};
        target->poke(object, bytes);
    }
    std::uint64_t size(const std::string& object) const { return target->peek(object).size(); }
    std::vector<std::string> names(const std::string& prefix) const {
        std::vector<std::string> names;
        target->list(prefix, [&](const ObjectEntry& entry) { names.push_back(entry.name); });
        return names;
    }
    std::string data_pack() const { return names("packs/").at(0); }
    std::string node_pack() const { return names("nodes/").at(0); }
};

}  // namespace nodesnap::test
