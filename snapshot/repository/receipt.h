// Receipts: what `nodesnap serve --append-only` writes down of each backup that it gets, before that is there. See docs/format.md,
// "Receipts". Clients can't write them, so they are what a retention policy goes by where a client's dates may be forged.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "io/checksum.h"
#include "io/target/target.h"
#include "snapshot/repository/layout.h"

namespace nodesnap {

struct Receipt {
    layout::ManifestName manifest{};  // revision 0
    SessionId session;
    std::int64_t received_ns = 0;  // UTC, by the server's clock
    std::uint64_t length = 0;      // of the manifest's object
    Checksum checksum;             // of it, plain
};

Bytes encode_receipt(const Uuid& repository, const Receipt& receipt);
// Error::damaged if it isn't the receipt of this name.
Receipt decode_receipt(std::span<const std::byte> text, const layout::ManifestName& manifest, const std::string& name,
                       const Uuid& repository);

// nullopt if there is none, or it can't be read, which `damaged` is told.
std::optional<Receipt> load_receipt(Target& target, const Uuid& repository, const layout::ManifestName& name,
                                    const std::function<void(const std::string&)>& damaged);

// The receipts of a repository. Memory: some 100 bytes for each.
class Receipts {
public:
    // Reads all. One that can't be read is known as such, and told to `damaged`.
    static Receipts load(Target& target, const Uuid& repository, const std::function<void(const std::string&)>& damaged);

    bool empty() const { return receipts_.empty() && unreadable_.empty(); }
    const Receipt* find(const layout::ManifestName& name) const;  // nullptr: there is none, or it can't be read
    bool is_unreadable(const layout::ManifestName& name) const { return unreadable_.contains(key_of(name)); }

private:
    using Key = std::pair<std::uint64_t, std::int64_t>;  // sequence, UTC
    static Key key_of(const layout::ManifestName& name) { return {name.sequence, name.utc_seconds}; }
    std::map<Key, Receipt> receipts_;
    std::set<Key> unreadable_;
};

}  // namespace nodesnap
