// The worked example of docs/format.md: what is written must be these bytes, and these bytes must be read. NODESNAP_PRINT_GOLDEN=1 prints
// what the document should say.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "tests/repository/node_store.h"

namespace nodesnap::test {
namespace {

// As `hexdump -C` prints it: repeated lines are one `*`.
std::string hexdump(std::span<const std::byte> bytes) {
    std::string text;
    std::string before;
    bool starred = false;
    for (std::size_t at = 0; at < bytes.size(); at += 16) {
        const auto row = bytes.subspan(at, std::min<std::size_t>(16, bytes.size() - at));
        std::string digits, letters;
        for (std::size_t i = 0; i < 16; ++i) {
            char buffer[8] = "   ";
            if (i < row.size()) {
                const auto value = std::to_integer<unsigned char>(row[i]);
                std::snprintf(buffer, sizeof(buffer), "%02x ", value);
                letters += value >= 0x20 && value < 0x7f ? static_cast<char>(value) : '.';
            }
            digits += i == 8 ? " " : "";
            digits += buffer;
        }
        if (digits == before && row.size() == 16) {
            text += starred ? "" : "*\n";
            starred = true;
            continue;
        }
        starred = false;
        before = digits;
        char offset[32];
        std::snprintf(offset, sizeof(offset), "%08zx  ", at);
        text += offset + digits + " |" + letters + "|\n";
    }
    char end[32];
    std::snprintf(end, sizeof(end), "%08zx\n", bytes.size());
    return text + end;
}

Bytes parse_hexdump(const std::string& text) {
    Bytes bytes;
    bool starred = false;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (line == "*") {
            starred = true;
            continue;
        }
        const std::size_t offset = std::stoul(line.substr(0, 8), nullptr, 16);
        while (starred && bytes.size() < offset) {
            const Bytes last(bytes.end() - 16, bytes.end());
            bytes.insert(bytes.end(), last.begin(), last.end());
        }
        starred = false;
        EXPECT_EQ(bytes.size(), offset);
        std::istringstream digits(line.substr(8, std::min(line.size(), line.find('|')) - std::min<std::size_t>(8, line.size())));
        for (unsigned value = 0; digits >> std::hex >> value;) {
            bytes.push_back(static_cast<std::byte>(value));
        }
    }
    return bytes;
}

// ```hexdump NAME ... ``` in the document.
std::string from_document(const std::string& name) {
    std::ifstream file(std::filesystem::path(NODESNAP_SOURCE_DIR) / "docs/format.md");
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const std::string opening = "```hexdump " + name + "\n";
    const std::size_t begin = text.find(opening);
    if (begin == std::string::npos) {
        return "";
    }
    return text.substr(begin + opening.size(), text.find("```", begin + opening.size()) - begin - opening.size());
}

// One file `a` of 3000 letters in the root directory.
class Golden : public ::testing::Test {
protected:
    static constexpr std::uint64_t kRoot = 256;
    static constexpr std::uint64_t kFile = 257;
    MemoryTarget target;
    const std::string data_pack = layout::pack({layout::PackKind::kData, sample_pack(0), 0});
    const std::string node_pack = layout::pack({layout::PackKind::kNodes, sample_pack(1), 0});
    Manifest manifest;

    void SetUp() override {
        write_data();
        write_tree();
        manifest.id = sample_session();
        manifest.name = {1, 1'700'000'000, 0};
        manifest.epoch = 1;
        manifest.snapshot_time_ns = 1'700'000'000'000'000'000;
        manifest.finished_time_ns = 1'700'000'001'000'000'000;
        manifest.snapshot_duration_ns = 1'000'000;
        manifest.host_name = "db1";
        manifest.tool_version = "0.1.0";
        manifest.proof.backend = "none";
        manifest.node = {sample_uuid(), "node1", "m1", "f1", "/srv"};
        manifest.hash_seed = kSampleSeed;
        manifest.repository_created_ns = 1'600'000'000'000'000'000;
        manifest.root_ino = kRoot;
        manifest.packs = {sample_pack(0), sample_pack(1)};
        manifest.totals = {1, 1, 0, 3000, 3000, 3000, 50'000, 0, 0};
        target.objects[layout::manifest(manifest.name)] = encode_manifest(sample_uuid(), manifest);
    }

    void write_data() {
        const Hasher hasher(kSampleSeed);
        const Bytes plain(3000, std::byte{'n'});
        Bytes object = pack_head(sample_uuid(), layout::PackKind::kData, sample_pack(0), 0);
        PackIndex index(layout::PackKind::kData, sample_pack(0), 0);
        index.add({4096, 0, 3000, 3000, Codec::kNone}, std::vector{hasher(plain)});
        object.insert(object.end(), plain.begin(), plain.end());
        const Bytes tail = pack_tail(sample_uuid(), index, object.size());
        object.insert(object.end(), tail.begin(), tail.end());
        target.objects[data_pack] = object;
    }

    void write_tree() {
        NodeWriter nodes(target, sample_uuid(), Hasher(kSampleSeed), [] { return sample_pack(1); });
        TreeBuilder tree(nodes);
        Inode root;
        root.type = FileType::kDirectory;
        root.mode = 0755;
        root.modified = {1'700'000'000, 5};
        Inode file;
        file.mode = 0644;
        file.size = 3000;
        file.modified = {1'600'000'000, 7};
        file.runs = {{0, 3000, sample_pack(0), 0, 0, 1, Run::kNone}};
        file.run_count = 1;
        tree.add(key::user(0), encode_owner_name("root"));
        tree.add(key::inode(kRoot), encode(root));
        tree.add(key::dirent(kRoot, "a"), encode(Dirent{kFile, FileType::kRegular}));
        tree.add(key::inode(kFile), encode(file));
        manifest.tree = tree.finish();
        nodes.finish();
    }
};

TEST_F(Golden, WhatIsWrittenIsTheDocumentsExample) {
    for (const auto& [name, object] : target.objects) {
        const std::string expected = hexdump(object);
        if (std::getenv("NODESNAP_PRINT_GOLDEN") != nullptr) {
            std::cout << "```hexdump " << name << "\n" << expected << "```\n\n";
        }
        EXPECT_EQ(from_document(name), expected) << name;
    }
}

TEST_F(Golden, TheDocumentsExampleIsRead) {
    MemoryTarget stored;
    for (const auto& [name, object] : target.objects) {
        stored.objects[name] = parse_hexdump(from_document(name));
        ASSERT_EQ(stored.objects[name].size(), object.size());
    }
    Damages damages;
    const auto read = load_manifest(stored, layout::manifest(manifest.name), sample_uuid(), damages.sink()).value().value();
    EXPECT_EQ(read.root_ino, kRoot);
    PackCache packs(stored, sample_uuid(), damages.sink());
    const Hasher hasher(read.hash_seed);
    NodeReader nodes(packs, hasher, damages.sink());
    const Dirent entry = decode_dirent(tree_find(nodes, read.tree, key::dirent(kRoot, "a")).value());
    const Inode file = decode_inode(tree_find(nodes, read.tree, key::inode(entry.ino)).value());
    ASSERT_EQ(file.runs.size(), 1U);
    const auto pack = packs.get(layout::PackKind::kData, file.runs[0].pack);
    Bytes content(file.size);
    pack->read_stored(content, pack->index().segment(file.runs[0].first).offset);
    EXPECT_EQ(content, Bytes(3000, std::byte{'n'}));
    EXPECT_EQ(hasher(content), pack->index().blocks(0).front());
    EXPECT_EQ(decode_owner_name(tree_find(nodes, read.tree, key::user(0)).value()), "root");
    EXPECT_TRUE(damages.list.empty());
}

}  // namespace
}  // namespace nodesnap::test
