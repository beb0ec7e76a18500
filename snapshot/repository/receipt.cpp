#include "snapshot/repository/receipt.h"

#include <vector>

#include "platform/error.h"
#include "snapshot/repository/json_object.h"

namespace nodesnap {
namespace {

constexpr std::string_view kKind = "receipt";

}  // namespace

Bytes encode_receipt(const Uuid& repository, const Receipt& receipt) {
    JsonObject object;
    object.kind = kKind;
    object.repository = repository;
    object.members["manifest"] = layout::manifest(receipt.manifest);
    object.members["session"] = receipt.session.hex();
    object.members["received_ns"] = receipt.received_ns;
    object.members["length"] = receipt.length;
    object.members["manifest_low"] = member::to_hex64(receipt.checksum.low);
    object.members["manifest_high"] = member::to_hex64(receipt.checksum.high);
    return encode_json_object(object);
}

Receipt decode_receipt(std::span<const std::byte> text, const layout::ManifestName& manifest, const std::string& name,
                       const Uuid& repository) {
    const auto members = decode_json_object(text, kKind, name, repository).members;
    const auto session = SessionId::parse(member::text(members, "session", name));
    if (member::text(members, "manifest", name) != layout::manifest({manifest.sequence, manifest.utc_seconds, 0}) || !session) {
        throw Error::damaged(name, "it is the receipt of another backup");
    }
    Receipt receipt;
    receipt.manifest = {manifest.sequence, manifest.utc_seconds, 0};
    receipt.session = *session;
    receipt.received_ns = member::integer(members, "received_ns", name);
    receipt.length = member::unsigned_integer(members, "length", name);
    receipt.checksum = {member::hex64(members, "manifest_low", name), member::hex64(members, "manifest_high", name)};
    return receipt;
}

std::optional<Receipt> load_receipt(Target& target, const Uuid& repository, const layout::ManifestName& name,
                                    const std::function<void(const std::string&)>& damaged) {
    const std::string object = layout::receipt(name);
    try {
        if (const auto stored = target.load(object, kJsonObjectLimit)) {
            return decode_receipt(stored->content, name, target.describe(object), repository);
        }
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged && !is_media_error(error.error_number())) {
            throw;
        }
        damaged(error.message());
    }
    return std::nullopt;
}

Receipts Receipts::load(Target& target, const Uuid& repository, const std::function<void(const std::string&)>& damaged) {
    std::vector<layout::ManifestName> names;
    target.list(layout::kReceipts, [&](const ObjectEntry& entry) {
        if (const auto name = layout::parse_receipt(entry.name)) {
            names.push_back(*name);
        }
    });
    Receipts receipts;
    for (const layout::ManifestName& name : names) {
        const auto found = load_receipt(target, repository, name, [&](const std::string& damage) {
            receipts.unreadable_.insert(key_of(name));
            damaged(damage);
        });
        if (found) {
            receipts.receipts_.emplace(key_of(name), *found);
        }
    }
    return receipts;
}

const Receipt* Receipts::find(const layout::ManifestName& name) const {
    const auto found = receipts_.find(key_of(name));
    return found == receipts_.end() ? nullptr : &found->second;
}

}  // namespace nodesnap
