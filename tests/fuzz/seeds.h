// Valid objects for each parser: what fuzzing begins with. tests/fuzz/corpus holds them as files; a test compares, and writes them when
// NODESNAP_WRITE_CORPUS is set.
#pragma once

#include <string>
#include <vector>

#include "tests/fuzz/parsers.h"

namespace nodesnap::test {

struct Seed {
    std::string name;
    Bytes bytes;
};

inline Bytes sample_footer(layout::PackKind kind, bool encoded) {
    PackIndex index(kind, sample_pack(1), 0);
    const bool nodes = kind == layout::PackKind::kNodes;
    const Checksum sum{1, 2};
    std::uint64_t offset = 4096;
    for (std::uint32_t i = 0; i < 5; ++i) {
        const Codec codec = encoded ? Codec::kZstd : Codec::kNone;
        index.add({offset, nodes ? offset + (1U << 20) : 0, 1000, 1000, codec}, std::span(&sum, 1), sum);
        offset += 4096;
    }
    index.drop(3);
    return PackFooter::encode(index);
}

inline std::vector<Seed> header_seeds() {
    const Bytes head = pack_head(sample_uuid(), layout::PackKind::kData, sample_pack(1), 0);
    const Bytes tail = pack_tail(sample_uuid(), PackIndex(layout::PackKind::kNodes, sample_pack(1), 3), 8192);
    return {{"head", Bytes(head.begin(), head.begin() + 256)}, {"trailer", Bytes(tail.end() - 4096, tail.end() - 4096 + 256)}};
}

inline std::vector<Seed> pack_seeds() {
    MemoryTarget target;
    const auto name = put_data_pack(target, sample_pack(1), 2, 16);
    return {{"data-footer", sample_footer(layout::PackKind::kData, false)},
            {"encoded-footer", sample_footer(layout::PackKind::kData, true)},
            {"node-footer", sample_footer(layout::PackKind::kNodes, true)},
            {"pack", target.objects[name]}};
}

inline std::vector<Seed> node_seeds() {
    EntryColumns entries;
    entries.add(key::inode(256), encode(sample_inode()));
    entries.add(key::xattr(256, "user.a"), encode(Xattr{}));
    entries.add(key::dirent(256, "name"), encode(Dirent{257, FileType::kFifo}));
    ChildColumns children;
    children.add("a", {{sample_pack(1), 3}, 10});
    children.add("b", {{sample_pack(2), 4}, 1});
    RunColumns runs;
    for (const Run& run : sample_inode().runs) {
        runs.add(run);
    }
    RunColumns plain;
    plain.add({4096, 4096, sample_pack(1), 5, 0, 1, Run::kNone});
    plain.add({8192, 4096, sample_pack(1), 9, 0, 1, Run::kNone});
    return {{"entries", entries.encode()}, {"children", children.encode(2)}, {"runs", runs.encode()}, {"plain-runs", plain.encode()}};
}

inline std::vector<Seed> record_seeds() {
    Inode tree = sample_inode();
    tree.runs.clear();
    tree.map = NodeRef{{sample_pack(3), 8}, 2};
    tree.run_count = 1000;
    Inode symlink;
    symlink.type = FileType::kSymlink;
    symlink.content = to_bytes("../target");
    const Xattr large{{}, {{0, 5000, sample_pack(1), 3, 0, 1, Run::kNone}}, 5000};
    return {{"inode", encode(sample_inode())},
            {"inode-tree", encode(tree)},
            {"symlink", encode(symlink)},
            {"dirent", encode(Dirent{257, FileType::kDirectory})},
            {"xattr", encode(Xattr{to_bytes("value"), {}, 5})},
            {"xattr-runs", encode(large)},
            {"owner", encode_owner_name("postgres")},
            {"key", to_bytes(key::dirent(256, "name"))}};
}

inline std::vector<Seed> manifest_seeds() {
    return {{"fields", encode_manifest_fields(sample_manifest())},
            {"object", encode_manifest(sample_uuid(), sample_manifest())},
            {"void", encode_void_manifest(sample_uuid(), sample_session(), 0)}};
}

inline std::vector<Seed> json_object_seeds() {
    JsonObject object;
    object.kind = "session";
    object.repository = sample_uuid();
    object.members["path"] = member::from_path("/srv/\xff");
    object.members["seed"] = member::to_hex64(kSampleSeed);
    object.members["number"] = -5;
    object.members["nested"] = {{"list", {1, 2.5, true, nullptr, "text"}}};
    return {{"session", encode_json_object(object)}};
}

inline std::vector<Seed> lease_seeds() {
    LeaseHolder holder;
    holder.epoch = 7;
    holder.held = true;
    holder.command = "backup";
    holder.host = "host1";
    holder.machine_id = "0123456789abcdef0123456789abcdef";
    holder.boot_id = "00112233-4455-6677-8899-aabbccddeeff";
    holder.pid_namespace = "pid:[4026531836]";
    holder.pid = 1234;
    holder.process_start = 56789;
    holder.acquired_ns = holder.heartbeat_ns = 1'700'000'000'000'000'000;
    holder.heartbeat_boot_ns = 1'000'000'000;
    holder.lease_seconds = 300;
    LeaseHolder released = holder;
    released.held = false;
    return {{"held", encode_lease(sample_uuid(), holder)}, {"released", encode_lease(sample_uuid(), released)}};
}

inline std::vector<Seed> description_seeds() {
    Description description;
    description.info.uuid = sample_uuid();
    description.info.hash_seed = kSampleSeed;
    description.info.created_ns = 1'700'000'000'000'000'000;
    description.info.node.name = "node1";
    description.revision = 1;
    Description bound = description;
    bound.revision = 2;
    bound.info.node = sample_manifest().node;
    bound.info.node.path = "/srv/\xff";
    return {{"new", encode_description(description)}, {"bound", encode_description(bound)}};
}

inline std::vector<Seed> session_seeds() {
    JsonObject object;
    object.kind = "session";
    object.repository = sample_uuid();
    object.members["id"] = sample_session().hex();
    object.members["manifest"] = layout::manifest({1, 1'700'000'000, 0});
    object.members["epoch"] = 7;
    object.members["host"] = "host1";
    object.members["snapshot_path"] = member::from_path("/srv/.nodesnap/one");
    object.members["snapshot_backend"] = "btrfs";
    return {{"session", encode_json_object(object)}};
}

inline Bytes sample_log() {
    Compressor compressor;
    PackLog log;
    log.add(key::xattr(7, "user.a"), encode(Xattr{to_bytes("value"), {}, 5}), compressor);
    log.add(key::inode(7), encode(sample_inode()), compressor);
    log.add_run(9, Run{1U << 20, 4096, sample_pack(2), 0, 4096, 1, Run::kNone}, compressor);
    return log.encode(sample_uuid(), sample_pack(1), sample_pack(0), compressor);
}

inline std::vector<Seed> pack_log_seeds() {
    const Bytes log = sample_log();
    const auto length = static_cast<std::ptrdiff_t>(load_little_endian<std::uint64_t>(log, 48));
    const Bytes payload(log.begin() + kHeaderBytes, log.begin() + kHeaderBytes + length);
    Bytes records(load_little_endian<std::uint32_t>(payload, 20));
    must(decompress(std::span(payload).subspan(24), records), "the sample cannot be decompressed");
    return {{"payload", payload}, {"records", records}};
}

inline std::vector<Seed> seeds_of(const std::string& parser) {
    if (parser == "header_fuzz") {
        return header_seeds();
    }
    if (parser == "inner_part_fuzz") {
        return {{"plain", seal_inner_part(kFooterMagic, Bytes(100, std::byte{7}))},
                {"compressed", seal_inner_part(kFooterMagic, Bytes(100'000, std::byte{7}))}};
    }
    if (parser == "checks_fuzz") {
        const std::uint8_t first_byte = sample_pack(1).bytes[0];
        return {{"empty", encode_check_record(sample_uuid(), first_byte, {})},
                {"two", encode_check_record(sample_uuid(), first_byte,
                                            {{sample_pack(1), 0, false, 1'700'000'000}, {sample_pack(1 + 256), 2, true, 1'700'000'000}})}};
    }
    if (parser == "inventory_fuzz") {
        return {{"empty", encode_inventory(sample_uuid(), {})},
                {"two", encode_inventory(sample_uuid(), {7, {{sample_pack(1), 1U << 27, 0}, {sample_pack(2), 0, 3}}})}};
    }
    if (parser == "thin_delta_fuzz") {
        const std::string begin = "<superblock time=\"2\" data_block_size=\"128\">\n  <diff left=\"2\" right=\"3\">\n";
        const std::string end = "  </diff>\n</superblock>\n";
        return {{"empty", to_bytes(begin + end)},
                {"ranges", to_bytes(begin +
                                    "    <same begin=\"0\" length=\"10\"/>\n    <different begin=\"10\" length=\"2\"/>\n"
                                    "    <left_only begin=\"12\" length=\"1\"/>\n    <right_only begin=\"99\" length=\"7\"/>\n" +
                                    end)}};
    }
    if (parser == "remote_fuzz") {
        const auto asked = [](remote::FrameKind kind, Bytes message) {
            message.insert(message.begin(), static_cast<std::byte>(kind));
            return message;
        };
        return {{"create", asked(remote::FrameKind::kCreate, remote::MessageWriter().text("a/b").rest(to_bytes("content")).take())},
                {"swap", asked(remote::FrameKind::kSwap, remote::MessageWriter().text("a").number(0).text("").take())},
                {"load", asked(remote::FrameKind::kLoad, remote::MessageWriter().text("a").number(100).take())},
                {"error", asked(remote::FrameKind::kError, remote::encode_error(Error::failed("no", "hint")))},
                {"served", to_bytes("xnodesnap serve '/a'\\''b'")},
                {"place", to_bytes("xme@[::1]:22/path")}};
    }
    if (parser == "pack_fuzz") {
        return pack_seeds();
    }
    if (parser == "node_fuzz") {
        return node_seeds();
    }
    if (parser == "record_fuzz") {
        return record_seeds();
    }
    if (parser == "pack_log_fuzz") {
        return pack_log_seeds();
    }
    if (parser == "lease_fuzz") {
        return lease_seeds();
    }
    if (parser == "description_fuzz") {
        return description_seeds();
    }
    if (parser == "session_fuzz") {
        return session_seeds();
    }
    return parser == "manifest_fuzz" ? manifest_seeds() : json_object_seeds();
}

}  // namespace nodesnap::test
