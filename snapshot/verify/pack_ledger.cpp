#include "snapshot/verify/pack_ledger.h"

#include <algorithm>
#include <cstring>

namespace nodesnap {
namespace {

constexpr std::size_t kPendingOverhead = 128;  // of one pack in the map

std::string key_of(const PackId& id) {
    return {reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size()};
}

void put(std::string& bytes, std::uint64_t number) {
    for (; number >= 0x80; number >>= 7) {
        bytes += static_cast<char>(number | 0x80);
    }
    bytes += static_cast<char>(number);
}

std::uint64_t take(std::string_view& bytes) {
    std::uint64_t number = 0;
    for (unsigned shift = 0; !bytes.empty(); shift += 7) {
        const auto byte = static_cast<unsigned char>(bytes.front());
        bytes.remove_prefix(1);
        number |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
        if (byte < 0x80) {
            break;
        }
    }
    return number;
}

std::string tagged(PackFact::Kind kind) {
    return std::string(1, static_cast<char>(kind));
}

}  // namespace

PackLedger::PackLedger(const std::string& scratch_directory) : sorter_(scratch_directory, kSorterBytes) {}

void PackLedger::exists(const layout::PackName& name, std::uint64_t size) {
    std::string value = tagged(PackFact::Kind::kExists);
    put(value, static_cast<std::uint64_t>(name.kind));
    put(value, name.generation);
    put(value, size);
    sorter_.add(key_of(name.id), value);
}

void PackLedger::mentioned(const PackId& id) {
    sorter_.add(key_of(id), tagged(PackFact::Kind::kMentioned));
}

void PackLedger::used(const Run& run) {
    const auto [place, is_new] = pending_.try_emplace(run.pack, tagged(PackFact::Kind::kUsed));
    std::string& uses = place->second;
    const std::size_t before = uses.size();
    put(uses, run.first);
    put(uses, run.count);
    put(uses, run.skip);
    put(uses, run.length);
    pending_bytes_ += uses.size() - before + (is_new ? kPendingOverhead : 0);
    if (uses.size() >= kBatchBytes) {
        flush(run.pack, uses);
        pending_bytes_ -= std::min(pending_bytes_, uses.size() + kPendingOverhead);
        pending_.erase(place);
    } else if (pending_bytes_ >= kPendingBytes) {
        flush_all();
    }
}

void PackLedger::flush(const PackId& id, std::string& uses) {
    sorter_.add(key_of(id), uses);
}

void PackLedger::flush_all() {
    for (auto& [id, uses] : pending_) {
        flush(id, uses);
    }
    pending_.clear();
    pending_bytes_ = 0;
}

bool PackLedger::next(PackFact& fact) {
    if (!reading_) {
        flush_all();
        reading_ = true;
    }
    std::string_view key, value;
    if (!sorter_.next(key, value)) {
        return false;
    }
    std::memcpy(fact.id.bytes.data(), key.data(), fact.id.bytes.size());
    fact.kind = static_cast<PackFact::Kind>(value.front());
    value.remove_prefix(1);
    fact.uses.clear();
    if (fact.kind == PackFact::Kind::kExists) {
        fact.pack_kind = static_cast<layout::PackKind>(take(value));
        fact.generation = static_cast<std::uint32_t>(take(value));
        fact.size = take(value);
    }
    while (fact.kind == PackFact::Kind::kUsed && !value.empty()) {
        SegmentUse use;
        use.first = static_cast<std::uint32_t>(take(value));
        use.count = static_cast<std::uint32_t>(take(value));
        use.skip = static_cast<std::uint32_t>(take(value));
        use.length = take(value);
        fact.uses.push_back(use);
    }
    return true;
}

}  // namespace nodesnap
