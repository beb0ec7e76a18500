#include "snapshot/repository/roll.h"

#include <algorithm>

#include "platform/error.h"
#include "snapshot/repository/json_object.h"

namespace nodesnap {
namespace {

constexpr std::string_view kKind = "roll";
constexpr std::size_t kMost = 1000;
constexpr int kAttempts = 8;

}  // namespace

std::string roll_entry(const layout::ManifestName& name) {
    return layout::receipt(name).substr(layout::kReceipts.size());
}

std::optional<std::set<std::string>> load_roll(Target& target, const Uuid& repository) {
    try {
        const auto stored = target.load(layout::kRoll, kJsonObjectLimit);
        if (!stored) {
            return std::nullopt;
        }
        const auto members = decode_json_object(stored->content, kKind, target.describe(layout::kRoll), repository).members;
        std::set<std::string> names;
        const auto kept = members.find("kept");
        for (std::size_t i = 0; kept != members.end() && kept->is_array() && i < kept->size(); ++i) {
            if (const auto& name = (*kept)[i]; name.is_string()) {
                names.insert(name.get<std::string>());
            }
        }
        return names;
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged && !is_media_error(error.error_number())) {
            throw;
        }
        return std::nullopt;
    }
}

void store_roll(Target& target, const Uuid& repository, std::span<const layout::ManifestName> kept) {
    JsonObject object;
    object.kind = kKind;
    object.repository = repository;
    auto& names = object.members["kept"] = nlohmann::ordered_json::array();
    for (const layout::ManifestName& name : kept.last(std::min(kept.size(), kMost))) {
        names.push_back(roll_entry(name));
    }
    const Bytes content = encode_json_object(object);
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        const auto present = target.load_salvaging(layout::kRoll, kJsonObjectLimit);
        if (target.swap(layout::kRoll, present ? std::optional(present->version) : std::nullopt, content)) {
            return;
        }
    }
    throw Error::failed(target.describe(layout::kRoll) + " keeps changing", "run it again");
}

}  // namespace nodesnap
