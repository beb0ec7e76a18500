#include "snapshot/repository/manifest_fields.h"

#include <algorithm>
#include <cstring>

#include "metadata_generated.h"

namespace nodesnap {
namespace {

using Builder = flatbuffers::FlatBufferBuilder;
using ByteVector = flatbuffers::Vector<std::uint8_t>;

constexpr std::size_t kTextLimit = 64U << 10;
constexpr std::size_t kListLimit = 65536;
constexpr std::uint8_t kHeightLimit = 16;
constexpr std::uint32_t kModeLimit = 07777;

flatbuffers::Offset<ByteVector> bytes_of(Builder& builder, const std::string& text) {
    return builder.CreateVector(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
}

template <std::size_t N>
flatbuffers::Offset<ByteVector> bytes_of(Builder& builder, const std::array<std::uint8_t, N>& bytes) {
    return builder.CreateVector(bytes.data(), bytes.size());
}

// What a stored field gives; notes when it isn't what a writer may have written. All texts together can't be longer than what holds them,
// unless some are given many times over.
class Fields {
public:
    explicit Fields(std::size_t text_budget) : text_left_(text_budget) {}
    std::string text(const flatbuffers::String* from) {
        if (from == nullptr) {
            return {};
        }
        return spend(from->size()) ? from->str() : std::string();
    }
    std::string text(const ByteVector* from) {
        if (from == nullptr) {
            return {};
        }
        return spend(from->size()) ? std::string(reinterpret_cast<const char*>(from->Data()), from->size()) : std::string();
    }
    template <typename Id>
    Id id(const ByteVector* from) {
        Id id;
        ok_ &= from != nullptr && from->size() == id.bytes.size();
        if (ok_) {
            std::memcpy(id.bytes.data(), from->Data(), id.bytes.size());
        }
        return id;
    }
    void require(bool holds) { ok_ &= holds; }
    bool ok() const { return ok_; }

private:
    bool spend(std::size_t bytes) {
        ok_ &= bytes <= kTextLimit && bytes <= text_left_;
        text_left_ -= ok_ ? bytes : 0;
        return ok_;
    }

    std::size_t text_left_;
    bool ok_ = true;
};

// ---- Writing

flatbuffers::Offset<format::SnapshotProof> store(Builder& builder, const SnapshotProof& proof) {
    const auto backend = builder.CreateString(proof.backend);
    const auto path = bytes_of(builder, proof.path);
    const auto file_system = builder.CreateString(proof.file_system_uuid);
    const auto subvolume = bytes_of(builder, proof.subvolume_uuid.bytes);
    return format::CreateSnapshotProof(builder, backend, path, file_system, subvolume, proof.otransid, proof.ctransid, proof.read_only);
}

flatbuffers::Offset<format::NodeIdentity> store(Builder& builder, const NodeIdentity& node) {
    const auto uuid = bytes_of(builder, node.uuid.bytes);
    const auto name = builder.CreateString(node.name);
    const auto machine = builder.CreateString(node.machine_id);
    const auto file_system = builder.CreateString(node.file_system_uuid);
    const auto path = bytes_of(builder, node.path);
    return format::CreateNodeIdentity(builder, uuid, name, machine, file_system, path);
}

flatbuffers::Offset<format::Totals> store(Builder& builder, const Manifest::Totals& totals) {
    return format::CreateTotals(builder, totals.files, totals.directories, totals.others, totals.logical_bytes, totals.data_bytes,
                                totals.read_bytes, totals.stored_bytes, totals.referenced_bytes, totals.unreadable_files);
}

flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<format::ByteString>>> store_list(Builder& builder,
                                                                                             const std::vector<std::string>& texts) {
    std::vector<flatbuffers::Offset<format::ByteString>> offsets;
    offsets.reserve(texts.size());
    for (const std::string& text : texts) {
        offsets.push_back(format::CreateByteString(builder, bytes_of(builder, text)));
    }
    return builder.CreateVector(offsets);
}

flatbuffers::Offset<flatbuffers::Vector<const format::PackId*>> store(Builder& builder, const std::vector<PackId>& packs) {
    return builder.CreateVectorOfStructs(reinterpret_cast<const format::PackId*>(packs.data()), packs.size());
}

// ---- Reading

std::vector<PackId> load(const flatbuffers::Vector<const format::PackId*>* from) {
    const auto* first = from != nullptr ? reinterpret_cast<const PackId*>(from->Data()) : nullptr;
    return from != nullptr ? std::vector<PackId>(first, first + from->size()) : std::vector<PackId>();
}

SnapshotProof load(Fields& fields, const format::SnapshotProof* from) {
    SnapshotProof proof;
    if (from != nullptr) {
        proof.backend = fields.text(from->backend());
        proof.path = fields.text(from->path());
        proof.file_system_uuid = fields.text(from->file_system_uuid());
        proof.subvolume_uuid = fields.id<Uuid>(from->subvolume_uuid());
        proof.otransid = from->otransid();
        proof.ctransid = from->ctransid();
        proof.read_only = from->read_only();
    }
    return proof;
}

NodeIdentity load(Fields& fields, const format::NodeIdentity* from) {
    NodeIdentity node;
    fields.require(from != nullptr);
    if (from != nullptr) {
        node.uuid = fields.id<Uuid>(from->uuid());
        node.name = fields.text(from->name());
        node.machine_id = fields.text(from->machine_id());
        node.file_system_uuid = fields.text(from->file_system_uuid());
        node.path = fields.text(from->path());
    }
    return node;
}

Manifest::Totals load(const format::Totals* from) {
    Manifest::Totals totals;
    if (from != nullptr) {
        totals = {from->files(),      from->directories(),  from->others(),           from->logical_bytes(),   from->data_bytes(),
                  from->read_bytes(), from->stored_bytes(), from->referenced_bytes(), from->unreadable_files()};
    }
    return totals;
}

TreeRoot load_tree(Fields& fields, const format::Manifest& from) {
    TreeRoot tree;
    tree.count = from.tree_count();
    fields.require((from.tree() == nullptr) == (tree.count == 0) && from.tree_height() < kHeightLimit);
    if (from.tree() != nullptr) {
        NodeRef root;
        std::memcpy(root.at.pack.bytes.data(), &from.tree()->pack(), sizeof(PackId));
        root.at.number = from.tree()->number();
        root.height = from.tree_height();
        tree.node = root;
    }
    return tree;
}

void load_lists(Fields& fields, const format::Manifest& from, Manifest& manifest) {
    if (const auto* excludes = from.excludes()) {
        fields.require(excludes->size() <= kListLimit);
        for (std::uint32_t i = 0; fields.ok() && i < excludes->size(); ++i) {
            manifest.excludes.push_back(fields.text(excludes->Get(i)->bytes()));
        }
    }
    if (const auto* tags = from.tags()) {
        fields.require(tags->size() <= kListLimit);
        for (std::uint32_t i = 0; fields.ok() && i < tags->size(); ++i) {
            manifest.tags.push_back(fields.text(tags->Get(i)));
        }
    }
    if (const auto* pins = from.pins()) {
        fields.require(pins->size() <= kPinsLimit);
        for (std::uint32_t i = 0; fields.ok() && i < pins->size(); ++i) {
            manifest.pins.push_back(fields.text(pins->Get(i)));
        }
    }
    manifest.packs = load(from.packs());
    if (const auto* bytes = from.pack_bytes()) {
        fields.require(bytes->size() <= manifest.packs.size());
        manifest.pack_bytes.assign(bytes->begin(), bytes->end());
    }
    manifest.avoided_packs = load(from.avoided_packs());
    fields.require(std::is_sorted(manifest.avoided_packs.begin(), manifest.avoided_packs.end()));
    if (from.parent() != nullptr) {
        manifest.parent = fields.id<SessionId>(from.parent());
    }
}

flatbuffers::Offset<format::CutPart> store(Builder& builder, const CutPart& part) {
    const auto cluster = builder.CreateString(part.cluster);
    const auto node = builder.CreateString(part.node);
    const auto proposal = builder.CreateString(part.proposal);
    return format::CreateCutPart(builder, cluster, node, proposal, static_cast<std::uint8_t>(part.hold), part.released, part.taken_ns,
                                 part.doubt_ns);
}

std::optional<CutPart> load_cut(Fields& fields, const format::Manifest& from) {
    fields.require((from.cut() == nullptr) == (from.cluster() == nullptr));
    if (from.cut() == nullptr || !fields.ok()) {
        return std::nullopt;
    }
    const format::CutPart& stored = *from.cut();
    fields.require(stored.hold() <= static_cast<std::uint8_t>(CutPart::Hold::kProved) && stored.doubt_ns() >= 0);
    return CutPart{fields.id<Uuid>(from.cluster()),
                   fields.text(stored.cluster()),
                   fields.text(stored.node()),
                   fields.text(stored.proposal()),
                   static_cast<CutPart::Hold>(stored.hold()),
                   stored.released(),
                   stored.taken_ns(),
                   stored.doubt_ns()};
}

// A path of names alone, below the root.
bool is_plain_absolute(const std::string& path) {
    if (path.size() < 2 || path.front() != '/' || path.find('\0') != std::string::npos) {
        return false;
    }
    for (std::size_t begin = 1; begin <= path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        const std::string_view name = std::string_view(path).substr(begin, end - begin);
        if (name.empty() || name == "." || name == "..") {
            return false;
        }
        begin = end + 1;
    }
    return true;
}

using CapturedList = flatbuffers::Vector<flatbuffers::Offset<format::CapturedFile>>;

flatbuffers::Offset<CapturedList> store(Builder& builder, const std::vector<CapturedFile>& files) {
    std::vector<flatbuffers::Offset<format::CapturedFile>> stored;
    for (const CapturedFile& file : files) {
        const auto path = bytes_of(builder, file.path);
        const auto content = bytes_of(builder, file.content);
        stored.push_back(format::CreateCapturedFile(builder, path, file.mode, file.uid, file.gid, file.modified.seconds,
                                                    file.modified.nanoseconds, content));
    }
    return builder.CreateVector(stored);
}

std::vector<CapturedFile> load(Fields& fields, const CapturedList* stored) {
    std::vector<CapturedFile> files;
    std::uint64_t bytes = 0;
    for (flatbuffers::uoffset_t index = 0; stored != nullptr && fields.ok() && index < stored->size(); ++index) {
        const format::CapturedFile& from = *stored->Get(index);
        CapturedFile file{fields.text(from.path()),   0, from.uid(), from.gid(), {from.modified_seconds(), from.modified_nanoseconds()},
                          fields.text(from.content())};
        fields.require(from.mode() <= kModeLimit);
        file.mode = static_cast<std::uint16_t>(from.mode() & kModeLimit);
        // It becomes a path below another directory.
        fields.require(is_plain_absolute(file.path) && (files.empty() || files.back().path < file.path));
        bytes += file.content.size();
        fields.require(bytes <= kCapturedLimit);
        files.push_back(std::move(file));
    }
    return files;
}

}  // namespace

Bytes encode_manifest_fields(const Manifest& manifest) {
    Builder builder(4096 + manifest.packs.size() * (sizeof(PackId) + sizeof(std::uint64_t)));
    const auto id = bytes_of(builder, manifest.id.bytes);
    const auto host = builder.CreateString(manifest.host_name);
    const auto version = builder.CreateString(manifest.tool_version);
    const auto profile = manifest.profile.empty() ? 0 : builder.CreateString(manifest.profile);
    const auto engine = manifest.engine_version.empty() ? 0 : builder.CreateString(manifest.engine_version);
    const auto excludes = store_list(builder, manifest.excludes);
    const auto tags = builder.CreateVectorOfStrings(manifest.tags);
    // Left out where there are none.
    const auto pins = manifest.pins.empty() ? 0 : builder.CreateVectorOfStrings(manifest.pins);
    const flatbuffers::Offset<ByteVector> parent = manifest.parent ? bytes_of(builder, manifest.parent->bytes) : 0;
    const auto proof = store(builder, manifest.proof);
    const auto node = store(builder, manifest.node);
    const auto packs = store(builder, manifest.packs);
    const auto pack_bytes = manifest.pack_bytes.empty() ? 0 : builder.CreateVector(manifest.pack_bytes);
    const auto avoided = manifest.avoided_packs.empty() ? 0 : store(builder, manifest.avoided_packs);
    const auto captured = manifest.captured.empty() ? 0 : store(builder, manifest.captured);
    const flatbuffers::Offset<ByteVector> cluster = manifest.cut ? bytes_of(builder, manifest.cut->cut.bytes) : 0;
    const auto cut = manifest.cut ? store(builder, *manifest.cut) : 0;
    const auto totals = store(builder, manifest.totals);

    format::ManifestBuilder fields(builder);
    fields.add_id(id);
    fields.add_sequence(manifest.name.sequence);
    fields.add_utc_seconds(manifest.name.utc_seconds);
    fields.add_revision(manifest.name.revision);
    fields.add_epoch(manifest.epoch);
    fields.add_snapshot_time_ns(manifest.snapshot_time_ns);
    fields.add_finished_time_ns(manifest.finished_time_ns);
    fields.add_snapshot_duration_ns(manifest.snapshot_duration_ns);
    fields.add_held_ns(manifest.held_ns);
    fields.add_consistency(static_cast<std::uint8_t>(manifest.consistency));
    fields.add_damaged(manifest.damaged);
    fields.add_pinned(manifest.pinned);
    fields.add_host_name(host);
    fields.add_tool_version(version);
    fields.add_excludes(excludes);
    fields.add_tags(tags);
    fields.add_parent(parent);
    fields.add_proof(proof);
    fields.add_node(node);
    fields.add_hash_seed(manifest.hash_seed);
    fields.add_repository_created_ns(manifest.repository_created_ns);
    format::Reference tree;
    if (manifest.tree.node) {
        format::PackId pack;
        std::memcpy(&pack, manifest.tree.node->at.pack.bytes.data(), sizeof(pack));
        tree = format::Reference(pack, manifest.tree.node->at.number);
        fields.add_tree(&tree);
        fields.add_tree_height(manifest.tree.node->height);
    }
    fields.add_tree_count(manifest.tree.count);
    fields.add_root_ino(manifest.root_ino);
    fields.add_packs(packs);
    fields.add_totals(totals);
    fields.add_pins(pins);
    fields.add_profile(profile);
    fields.add_engine_version(engine);
    fields.add_pack_bytes(pack_bytes);
    fields.add_avoided_packs(avoided);
    fields.add_captured(captured);
    fields.add_cluster(cluster);
    fields.add_cut(cut);
    builder.Finish(fields.Finish());
    const auto* begin = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
    return Bytes(begin, begin + builder.GetSize());
}

Parsed<Manifest> parse_manifest_fields(std::span<const std::byte> inner) {
    using Result = Parsed<Manifest>;
    flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(inner.data()), inner.size(), 8, 2 * kListLimit + 16);
    if (!verifier.VerifyBuffer<format::Manifest>(nullptr)) {
        return Result::bad("malformed");
    }
    const auto& from = *flatbuffers::GetRoot<format::Manifest>(inner.data());
    if (from.packs_tree() != nullptr || from.tombstones() != nullptr) {
        return Result::bad("uses fields of a newer version");
    }
    Fields fields(inner.size());
    Manifest manifest;
    manifest.id = fields.id<SessionId>(from.id());
    manifest.name = {from.sequence(), from.utc_seconds(), from.revision()};
    manifest.epoch = from.epoch();
    manifest.snapshot_time_ns = from.snapshot_time_ns();
    manifest.finished_time_ns = from.finished_time_ns();
    manifest.snapshot_duration_ns = from.snapshot_duration_ns();
    manifest.held_ns = from.held_ns();
    manifest.consistency = static_cast<Consistency>(from.consistency());
    fields.require(manifest.consistency >= Consistency::kPointInTime && manifest.consistency <= Consistency::kInconsistent);
    manifest.damaged = from.damaged();
    manifest.pinned = from.pinned();
    manifest.host_name = fields.text(from.host_name());
    manifest.tool_version = fields.text(from.tool_version());
    manifest.profile = fields.text(from.profile());
    manifest.engine_version = fields.text(from.engine_version());
    manifest.proof = load(fields, from.proof());
    manifest.node = load(fields, from.node());
    manifest.hash_seed = from.hash_seed();
    manifest.repository_created_ns = from.repository_created_ns();
    manifest.tree = load_tree(fields, from);
    manifest.root_ino = from.root_ino();
    load_lists(fields, from, manifest);
    manifest.captured = load(fields, from.captured());
    manifest.cut = load_cut(fields, from);
    manifest.totals = load(from.totals());
    return fields.ok() ? Result::good(std::move(manifest)) : Result::bad("a field is out of bounds");
}

}  // namespace nodesnap
