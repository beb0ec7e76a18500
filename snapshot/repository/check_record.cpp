#include "snapshot/repository/check_record.h"

#include <algorithm>

#include "snapshot/repository/object_header.h"

namespace nodesnap {
namespace {

constexpr std::size_t kEntryBytes = 32;
constexpr std::size_t kTime = 16, kGeneration = 24, kResult = 28;  // offsets in an entry, behind the pack's id
constexpr std::int64_t kTimeLimit = 9'000'000'000;                 // away from 1970: in nanoseconds they must fit 64 bits
constexpr std::uint32_t kGood = 0, kDamaged = 1;

bool before(const PackCheckup& checkup, const PackId& pack) {
    return checkup.pack < pack;
}

CheckRecord flawed(std::string why) {
    CheckRecord record;
    record.flaw = std::move(why);
    return record;
}

std::array<std::uint8_t, 16> object_id(std::uint8_t first_byte) {
    return {first_byte};
}

// nullopt if it can't be one of the record's.
std::optional<PackCheckup> parse_entry(std::span<const std::byte> bytes, std::uint8_t first_byte) {
    PackCheckup checkup;
    std::memcpy(checkup.pack.bytes.data(), bytes.data(), checkup.pack.bytes.size());
    checkup.utc_seconds = load_little_endian<std::int64_t>(bytes, kTime);
    checkup.generation = load_little_endian<std::uint32_t>(bytes, kGeneration);
    const auto result = load_little_endian<std::uint32_t>(bytes, kResult);
    checkup.damaged = result == kDamaged;
    const bool possible = result <= kDamaged && checkup.utc_seconds >= -kTimeLimit && checkup.utc_seconds <= kTimeLimit;
    return possible && checkup.pack.bytes[0] == first_byte ? std::optional(checkup) : std::nullopt;
}

CheckRecord parse_entries(std::span<const std::byte> payload, std::uint8_t first_byte) {
    CheckRecord record;
    if (payload.size() % kEntryBytes != 0 || payload.size() / kEntryBytes > kCheckupsLimit) {
        return flawed("wrong length");
    }
    record.checkups.reserve(payload.size() / kEntryBytes);
    for (std::size_t at = 0; at < payload.size(); at += kEntryBytes) {
        const auto checkup = parse_entry(payload.subspan(at, kEntryBytes), first_byte);
        if (!checkup || (!record.checkups.empty() && record.checkups.back().pack >= checkup->pack)) {
            return flawed("its entries can't be right");
        }
        record.checkups.push_back(*checkup);
    }
    return record;
}

}  // namespace

const PackCheckup* CheckRecord::find(const PackId& pack) const {
    const auto found = std::lower_bound(checkups.begin(), checkups.end(), pack, before);
    return found != checkups.end() && found->pack == pack ? &*found : nullptr;
}

Bytes encode_check_record(const Uuid& repository, std::uint8_t first_byte, const std::vector<PackCheckup>& checkups) {
    Bytes object(kHeaderBytes + checkups.size() * kEntryBytes);
    const std::span<std::byte> payload = std::span(object).subspan(kHeaderBytes);
    std::size_t at = 0;
    for (const PackCheckup& checkup : checkups) {
        std::memcpy(payload.data() + at, checkup.pack.bytes.data(), checkup.pack.bytes.size());
        store_little_endian(payload, at + kTime, checkup.utc_seconds);
        store_little_endian(payload, at + kGeneration, checkup.generation);
        store_little_endian(payload, at + kResult, checkup.damaged ? kDamaged : kGood);
        at += kEntryBytes;
    }
    ObjectHeader header;
    header.kind = ObjectKind::kChecks;
    header.repository = repository;
    header.object_id = object_id(first_byte);
    header.payload_length = payload.size();
    header.payload_checksum = Hasher(0)(payload);
    encode_object_header(header, std::span(object).first<kHeaderBytes>());
    return object;
}

CheckRecord parse_check_record(std::span<const std::byte> bytes, const Uuid& repository, std::uint8_t first_byte) {
    const auto header = parse_object_header(bytes);
    if (!header) {
        return flawed(header.flaw);
    }
    if (header.value->kind != ObjectKind::kChecks || header.value->repository != repository ||
        header.value->object_id != object_id(first_byte)) {
        return flawed("it is another object");
    }
    const auto payload = bytes.subspan(kHeaderBytes);
    if (header.value->payload_length != payload.size() || !matches(header.value->payload_checksum, payload)) {
        return flawed("checksum mismatch");
    }
    if ((header.value->incompat & ~kKnownIncompat) != 0) {
        CheckRecord record = flawed("a newer version of nodesnap wrote it");
        record.replaceable = false;
        return record;
    }
    CheckRecord record = parse_entries(payload, first_byte);
    record.replaceable = (header.value->read_only_compat & ~kKnownReadOnlyCompat) == 0;
    return record;
}

std::vector<PackCheckup> merge_checkups(const std::vector<PackCheckup>& record, const std::vector<PackCheckup>& fresh,
                                        const std::vector<PackId>& existing, std::int64_t now_utc_seconds) {
    std::vector<PackCheckup> merged;
    merged.reserve(std::min(record.size() + fresh.size(), kCheckupsLimit));
    const auto keep = [&](const PackCheckup& checkup) {
        if (merged.size() < kCheckupsLimit) {
            merged.push_back(checkup);
        }
    };
    const auto keep_old = [&](const PackCheckup& checkup) {
        if (std::binary_search(existing.begin(), existing.end(), checkup.pack)) {
            keep(checkup);
        }
    };
    auto old = record.begin();
    for (const PackCheckup& checkup : fresh) {
        for (; old != record.end() && old->pack < checkup.pack; ++old) {
            keep_old(*old);
        }
        const bool known = old != record.end() && old->pack == checkup.pack;
        const bool later = known && old->utc_seconds > checkup.utc_seconds && old->utc_seconds <= now_utc_seconds;
        keep(later && old->generation >= checkup.generation ? *old : checkup);
        if (known) {
            ++old;
        }
    }
    for (; old != record.end(); ++old) {
        keep_old(*old);
    }
    return merged;
}

}  // namespace nodesnap
