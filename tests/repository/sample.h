// Valid objects for the tests of the stored format, and a generator of random ones whose seed is printed.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "snapshot/repository/manifest.h"
#include "snapshot/repository/pack.h"
#include "snapshot/repository/records.h"
#include "tests/repository/memory_target.h"

namespace nodesnap::test {

inline Uuid sample_uuid() {
    return *Uuid::parse("00112233-4455-4677-8899-aabbccddeeff");
}
inline SessionId sample_session() {
    return *SessionId::parse("0102030405060708090a0b");
}
inline PackId sample_pack(std::uint32_t counter) {
    return PackId::of(sample_session(), counter);
}
inline constexpr std::uint64_t kSampleSeed = 0x0123'4567'89ab'cdef;

inline std::span<const std::byte> as_bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}
inline Bytes to_bytes(std::string_view text) {
    const auto bytes = as_bytes(text);
    return Bytes(bytes.begin(), bytes.end());
}

// Random numbers for a property test; NODESNAP_SEED repeats a run.
class Random {
public:
    Random()
        : seed_(std::getenv("NODESNAP_SEED") != nullptr ? std::strtoull(std::getenv("NODESNAP_SEED"), nullptr, 10)
                                                        : std::random_device{}()) {
        std::cout << "NODESNAP_SEED=" << seed_ << '\n';
        engine_.seed(seed_);
    }
    std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }
    bool chance(std::uint64_t one_in) { return below(one_in) == 0; }
    std::uint64_t any() { return engine_(); }
    std::string text(std::size_t length) {
        std::string result(length, '\0');
        for (char& c : result) {
            c = static_cast<char>(1 + below(255));
        }
        return result;
    }

private:
    std::uint64_t seed_;
    std::mt19937_64 engine_;
};

inline Inode sample_inode() {
    Inode inode;
    inode.mode = 04755;
    inode.uid = 1000;
    inode.gid = 100;
    inode.size = 3U << 20;
    inode.links = 2;
    inode.accessed = {1'700'000'000, 1};
    inode.modified = {1'700'000'001, 999'999'999};
    inode.changed = {1'700'000'002, 3};
    inode.born = {-5, 4};
    inode.flags = 0x80;
    inode.generation = 77;
    inode.xattr_count = 2;
    inode.runs = {{0, 1U << 20, sample_pack(1), 4, 0, 1, Run::kNone},
                  {1U << 20, 4096, sample_pack(2), 0, 4096, 1, Run::kNone},
                  {2U << 20, 1U << 20, {}, 0, 0, 0, Run::kUnwritten}};
    inode.run_count = 3;
    return inode;
}

inline Manifest sample_manifest() {
    Manifest manifest;
    manifest.id = sample_session();
    manifest.name = {7, 1'700'000'000, 0};
    manifest.epoch = 3;
    manifest.snapshot_time_ns = 1'700'000'000'000'000'000;
    manifest.finished_time_ns = 1'700'000'005'000'000'000;
    manifest.snapshot_duration_ns = 2'000'000;
    manifest.consistency = Consistency::kCrashConsistent;
    manifest.host_name = "db1";
    manifest.tool_version = "0.1.0";
    manifest.excludes = {"cache/*", std::string("\xff\x01", 2)};
    manifest.tags = {"nightly"};
    manifest.proof = {"btrfs", "/srv/.nodesnap/7", "6d2b7e0e-0000-4000-8000-000000000001", sample_uuid(), 12, 13, true};
    manifest.node = {sample_uuid(), "node1", "0f0f0f0f", "6d2b7e0e-0000-4000-8000-000000000001", "/srv/qdb"};
    manifest.hash_seed = kSampleSeed;
    manifest.repository_created_ns = 1'600'000'000'000'000'000;
    manifest.tree = {NodeRef{{sample_pack(3), 5}, 1}, 1234};
    manifest.root_ino = 256;
    manifest.packs = {sample_pack(1), sample_pack(2), sample_pack(3)};
    manifest.totals = {10, 3, 1, 5'000'000, 4'000'000, 4'100'000, 4'200'000, 0, 0};
    return manifest;
}

// Collects what a sink is told.
struct Damages {
    std::vector<Damage> list;
    DamageSink sink() {
        return [this](const Damage& damage) { list.push_back(damage); };
    }
};

// A data pack of `segments` segments of `bytes` each, with recognizable content; stored under its name.
inline std::string put_data_pack(MemoryTarget& target, const PackId& id, std::uint32_t segments, std::uint32_t bytes,
                                 std::uint32_t generation = 0) {
    const Hasher hasher(kSampleSeed);
    PackIndex index(layout::PackKind::kData, id, generation);
    Bytes object = pack_head(sample_uuid(), layout::PackKind::kData, id, generation);
    for (std::uint32_t i = 0; i < segments; ++i) {
        object.resize((object.size() + kPackAlignment - 1) / kPackAlignment * kPackAlignment);
        const Bytes plain(bytes, static_cast<std::byte>(i + 1));
        std::vector<Checksum> blocks;
        for (std::size_t at = 0; at < plain.size(); at += kChecksumBlock) {
            blocks.push_back(hasher(std::span(plain).subspan(at, std::min<std::size_t>(kChecksumBlock, plain.size() - at))));
        }
        index.add({object.size(), 0, bytes, bytes, Codec::kNone}, blocks);
        object.insert(object.end(), plain.begin(), plain.end());
    }
    const Bytes tail = pack_tail(sample_uuid(), index, object.size());
    object.insert(object.end(), tail.begin(), tail.end());
    const std::string name = layout::pack({layout::PackKind::kData, id, generation});
    target.objects[name] = std::move(object);
    return name;
}

}  // namespace nodesnap::test
