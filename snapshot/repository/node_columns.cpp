#include <cstring>

#include "metadata_generated.h"
#include "platform/error.h"
#include "snapshot/repository/node_format.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {
namespace {

using Builder = flatbuffers::FlatBufferBuilder;

static_assert(sizeof(PackId) == sizeof(format::PackId));

Builder& cleared_builder() {
    thread_local Builder builder(kNodeLimit + 4096);
    builder.Clear();
    return builder;
}

Bytes finished(Builder& builder, flatbuffers::Offset<format::Node> node) {
    builder.Finish(node);
    if (builder.GetSize() > kNodeLimit) {
        throw Error::failed("internal error: a metadata node is too large", "please report this");
    }
    const auto* begin = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
    return Bytes(begin, begin + builder.GetSize());
}

flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> byte_vector(Builder& builder, const std::string& bytes) {
    return builder.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

template <typename T>
flatbuffers::Offset<flatbuffers::Vector<T>> vector_if(bool wanted, Builder& builder, const std::vector<T>& values) {
    return wanted ? builder.CreateVector(values) : 0;
}

flatbuffers::Offset<flatbuffers::Vector<const format::PackId*>> pack_vector(Builder& builder, const std::vector<PackId>& packs) {
    return packs.empty() ? 0 : builder.CreateVectorOfStructs(reinterpret_cast<const format::PackId*>(packs.data()), packs.size());
}

}  // namespace

std::string offset_key(std::uint64_t offset) {
    std::string key(8, '\0');
    for (int i = 7; i >= 0; --i, offset >>= 8) {
        key[static_cast<std::size_t>(i)] = static_cast<char>(offset & 0xff);
    }
    return key;
}

// ---- Packs

std::size_t NodePacks::cost(const PackId& id) const {
    return (!list_.empty() && list_[last_] == id) || places_.contains(id) ? 0 : sizeof(PackId);
}

std::uint16_t NodePacks::index(const PackId& id) {
    if (!list_.empty() && list_[last_] == id) {
        return last_;
    }
    const auto [place, is_new] = places_.try_emplace(id, static_cast<std::uint16_t>(list_.size()));
    if (is_new) {
        list_.push_back(id);
    }
    return last_ = place->second;
}

void NodePacks::clear() {
    list_.clear();
    places_.clear();
    last_ = 0;
}

// ---- Entries

bool EntryColumns::add(std::string_view key, std::span<const std::byte> value) {
    if (bytes() + key.size() + value.size() + kFixedBytes > kNodeContentLimit || size() == limit_) {
        return false;
    }
    keys_.append(key);
    values_.append(reinterpret_cast<const char*>(value.data()), value.size());
    key_ends_.push_back(static_cast<std::uint16_t>(keys_.size()));
    value_ends_.push_back(static_cast<std::uint16_t>(values_.size()));
    return true;
}

Bytes EntryColumns::encode() const {
    Builder& builder = cleared_builder();
    const auto keys = byte_vector(builder, keys_);
    const auto key_ends = builder.CreateVector(key_ends_);
    const auto values = byte_vector(builder, values_);
    const auto value_ends = builder.CreateVector(value_ends_);
    const auto entries = format::CreateEntries(builder, keys, key_ends, values, value_ends);
    return finished(builder, format::CreateNode(builder, 0, entries));
}

void EntryColumns::clear() {
    keys_.clear();
    values_.clear();
    key_ends_.clear();
    value_ends_.clear();
}

// ---- Children

bool ChildColumns::add(std::string_view key, const NodeChild& child) {
    if (bytes() + key.size() + kFixedBytes + packs_.cost(child.at.pack) > kNodeContentLimit || size() == limit_) {
        return false;
    }
    keys_.append(key);
    key_ends_.push_back(static_cast<std::uint16_t>(keys_.size()));
    pack_indexes_.push_back(packs_.index(child.at.pack));
    numbers_.push_back(child.at.number);
    counts_.push_back(child.count);
    total_ += child.count;
    return true;
}

Bytes ChildColumns::encode(std::uint8_t height) const {
    Builder& builder = cleared_builder();
    const auto keys = byte_vector(builder, keys_);
    const auto key_ends = builder.CreateVector(key_ends_);
    const auto pack_indexes = builder.CreateVector(pack_indexes_);
    const auto numbers = builder.CreateVector(numbers_);
    const auto counts = builder.CreateVector(counts_);
    const auto children = format::CreateChildren(builder, keys, key_ends, pack_indexes, numbers, counts);
    const auto packs = pack_vector(builder, packs_.list());
    return finished(builder, format::CreateNode(builder, height, 0, children, 0, packs));
}

void ChildColumns::clear() {
    keys_.clear();
    key_ends_.clear();
    pack_indexes_.clear();
    numbers_.clear();
    counts_.clear();
    packs_.clear();
    total_ = 0;
}

// ---- Runs

bool RunColumns::add(const Run& run) {
    const std::uint64_t gap = size() == 0 ? 0 : run.offset - end_;
    const bool has_pack = run.flags == Run::kNone;
    // Columns that hold only defaults aren't stored: how much each run takes depends on the others.
    const std::size_t fixed =
        fixed_bytes(any_gap_ || gap != 0, any_skip_ || run.skip != 0, any_count_ || run.count != 1, any_flag_ || run.flags != 0);
    const std::size_t packs = (packs_.list().size() * sizeof(PackId)) + (has_pack ? packs_.cost(run.pack) : 0);
    if ((size() + 1) * fixed + packs > kNodeContentLimit || size() == limit_) {
        return false;
    }
    any_gap_ |= gap != 0;
    any_skip_ |= run.skip != 0;
    any_count_ |= run.count != 1;
    any_flag_ |= run.flags != 0;
    if (size() == 0) {
        offset_ = run.offset;
    }
    gaps_.push_back(gap);
    lengths_.push_back(run.length);
    pack_indexes_.push_back(has_pack ? packs_.index(run.pack) : 0);
    firsts_.push_back(run.first);
    skips_.push_back(run.skip);
    counts_.push_back(run.count);
    flags_.push_back(static_cast<std::uint8_t>(run.flags));
    end_ = run.end();
    return true;
}

std::size_t RunColumns::bytes() const {
    return size() * fixed_bytes(any_gap_, any_skip_, any_count_, any_flag_) + packs_.list().size() * sizeof(PackId);
}

std::string RunColumns::first_key() const {
    return offset_key(offset_);
}

Bytes RunColumns::encode() const {
    Builder& builder = cleared_builder();
    const auto gaps = vector_if(any_gap_, builder, gaps_);
    const auto lengths = builder.CreateVector(lengths_);
    const auto pack_indexes = builder.CreateVector(pack_indexes_);
    const auto firsts = builder.CreateVector(firsts_);
    const auto skips = vector_if(any_skip_, builder, skips_);
    const auto counts = vector_if(any_count_, builder, counts_);
    const auto flags = vector_if(any_flag_, builder, flags_);
    const auto runs = format::CreateRuns(builder, offset_, gaps, lengths, pack_indexes, firsts, skips, counts, flags);
    const auto packs = pack_vector(builder, packs_.list());
    return finished(builder, format::CreateNode(builder, 0, 0, 0, runs, packs));
}

void RunColumns::clear() {
    gaps_.clear();
    lengths_.clear();
    pack_indexes_.clear();
    firsts_.clear();
    skips_.clear();
    counts_.clear();
    flags_.clear();
    any_gap_ = any_skip_ = any_count_ = any_flag_ = false;
    packs_.clear();
}

}  // namespace nodesnap
