#include <algorithm>
#include <utility>

#include "platform/error.h"
#include "snapshot/repository/object_header.h"
#include "snapshot/repository/pack.h"
#include "snapshot/repository/pack_footer.h"
#include "snapshot/repository/pack_salvage.h"
#include "snapshot/repository/pack_trailer.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kTailRead = 64U << 10;    // holds both trailers and, for most packs, both footers
constexpr std::uint32_t kGenerationsGuessed = 4;  // before a folder is listed, which may hold many packs
constexpr std::uint32_t kGenerationsTried = 16;   // of those that a listing finds, the highest
constexpr int kListings = 3;                      // a generation may be replaced between listing and opening it

std::string copy_name(const char* part, int copy) {
    return std::string(part) + (copy == 0 ? ", first copy" : ", second copy");
}

}  // namespace

// Opens one pack; keeps what it found wrong until it is known whether another copy or generation served.
class PackOpener {
public:
    PackOpener(Target& target, const Uuid& repository, layout::PackKind kind, const PackId& id, bool check_all)
        : target_(target), repository_(repository), kind_(kind), id_(id), check_all_(check_all) {}

    std::shared_ptr<PackReader> open();
    enum class Presence { kMissing, kPresent };
    Presence try_generation(std::uint32_t generation);
    const std::shared_ptr<PackReader>& best() const { return best_; }
    const std::vector<Damage>& damages() const { return damages_; }

private:
    using Opened = std::shared_ptr<PackReader>;

    void try_listed(std::uint32_t from);
    Opened parse(const std::string& object, std::unique_ptr<ObjectReader>& reader, std::uint32_t generation);
    bool read_tail(ObjectReader& reader, const std::string& object);
    Parsed<PackTrailer> parse_trailers(const std::string& object, std::uint64_t size, std::uint32_t generation);
    Parsed<PackIndex> parse_footer(ObjectReader& reader, const PackTrailer& trailer, int copy);
    std::span<const std::byte> bytes_at(ObjectReader& reader, std::uint64_t offset, std::uint64_t length, Bytes& own);
    void check_padding(ObjectReader& reader, const std::string& object, const PackTrailer& trailer);
    void check_head(ObjectReader& reader, const std::string& object, std::uint32_t generation);
    void note(const std::string& object, std::string what) { damages_.push_back({object, std::move(what), false}); }

    Target& target_;
    const Uuid& repository_;
    const layout::PackKind kind_;
    const PackId& id_;
    const bool check_all_;
    std::vector<Damage> damages_;
    Opened best_;
    Bytes tail_;
    std::uint64_t tail_offset_ = 0;
};

std::shared_ptr<PackReader> PackOpener::open() {
    // The next generation is complete before the one before it goes, and their numbers follow each other.
    std::uint32_t next = 0;
    while (next < kGenerationsGuessed && try_generation(next) == Presence::kMissing) {
        ++next;
    }
    if (next < kGenerationsGuessed) {
        const std::uint32_t end = next + kGenerationsTried;
        while (++next < end && try_generation(next) == Presence::kPresent) {
        }
    }
    for (int i = 0; best_ == nullptr && i < kListings; ++i) {
        try_listed(next);  // those before it have been tried
    }
    return best_;
}

void PackOpener::try_listed(std::uint32_t from) {
    std::vector<std::uint32_t> generations;
    std::string prefix = layout::pack({kind_, id_, 0});
    prefix.resize(prefix.rfind("0.pack"));
    target_.list(prefix, [&](const ObjectEntry& entry) {
        const auto name = layout::parse_pack(entry.name);
        if (name && name->kind == kind_ && name->id == id_) {
            generations.push_back(name->generation);
            std::sort(generations.begin(), generations.end(), std::greater<>());
            generations.resize(std::min<std::size_t>(generations.size(), kGenerationsTried));
        }
    });
    for (const std::uint32_t generation : generations) {
        if (best_ == nullptr && generation >= from) {
            try_generation(generation);
        }
    }
}

PackOpener::Presence PackOpener::try_generation(std::uint32_t generation) {
    const std::string object = layout::pack({kind_, id_, generation});
    std::unique_ptr<ObjectReader> reader;
    try {
        reader = target_.open(object);
    } catch (const Error& error) {
        // Another generation may serve.
        if (!is_media_error(error.error_number())) {
            throw;
        }
        note(object, error.message());
        return Presence::kPresent;
    }
    if (reader == nullptr) {
        return Presence::kMissing;
    }
    if (auto opened = parse(object, reader, generation)) {
        best_ = std::move(opened);
    }
    return Presence::kPresent;
}

PackOpener::Opened PackOpener::parse(const std::string& object, std::unique_ptr<ObjectReader>& reader, std::uint32_t generation) {
    if (!read_tail(*reader, object)) {
        return nullptr;
    }
    const auto trailer = parse_trailers(object, reader->size(), generation);
    if (!trailer) {
        return nullptr;
    }
    refuse_unknown_features(trailer.value->header, target_.describe(object));
    std::optional<PackIndex> index;
    for (int copy = 0; copy < 2 && (check_all_ || !index); ++copy) {
        auto parsed = parse_footer(*reader, *trailer.value, copy);
        if (!parsed) {
            note(object, copy_name("footer", copy) + ": " + parsed.flaw);
        } else if (!index) {
            index = std::move(parsed.value);
        }
    }
    if (!index) {
        return nullptr;
    }
    if (check_all_) {
        check_head(*reader, object, generation);
        check_padding(*reader, object, *trailer.value);
    }
    tail_ = {};
    Opened opened(new PackReader(object, std::move(reader), std::move(*index)));
    opened->may_rewrite_ = (trailer.value->header.read_only_compat & ~kKnownReadOnlyCompat) == 0;
    return opened;
}

bool PackOpener::read_tail(ObjectReader& reader, const std::string& object) {
    const std::uint64_t size = reader.size();
    if (size < kSmallestPack || size % kPackAlignment != 0 || size > kPackSizeLimit) {
        note(object, "no pack has this length; it was cut off or grew");
        return false;
    }
    tail_.resize(std::min(size, kTailRead));
    tail_offset_ = size - tail_.size();
    salvaging_read(reader, tail_, tail_offset_);
    return true;
}

Parsed<PackTrailer> PackOpener::parse_trailers(const std::string& object, std::uint64_t size, std::uint32_t generation) {
    auto trailers = std::span<const std::byte>(tail_).last(2 * kTrailerBytes);
    Parsed<PackTrailer> good;
    for (int copy = 0; copy < 2; ++copy, trailers = trailers.subspan(kTrailerBytes)) {
        const auto block = trailers.first(kTrailerBytes);
        auto parsed = parse_trailer(block, repository_, kind_, id_, generation, size);
        if (!parsed) {
            note(object, copy_name("trailer", copy) + ": " + parsed.flaw);
        } else if (!all_zero(block.subspan(kHeaderBytes + 64))) {
            note(object, copy_name("trailer", copy) + ": its padding isn't zero");
        }
        if (parsed && !good) {
            good = std::move(parsed);
        }
    }
    return good;
}

std::span<const std::byte> PackOpener::bytes_at(ObjectReader& reader, std::uint64_t offset, std::uint64_t length, Bytes& own) {
    if (offset >= tail_offset_) {
        return std::span<const std::byte>(tail_).subspan(offset - tail_offset_, length);
    }
    own.resize(length);
    salvaging_read(reader, own, offset);
    return own;
}

Parsed<PackIndex> PackOpener::parse_footer(ObjectReader& reader, const PackTrailer& trailer, int copy) {
    Bytes own;
    const auto footer = bytes_at(reader, copy == 0 ? trailer.first_footer : trailer.second_footer, trailer.footer_length, own);
    if (!matches(trailer.footer_checksum, footer)) {
        return Parsed<PackIndex>::bad("checksum mismatch");
    }
    const auto inner = open_inner_part(kFooterMagic, footer, kFooterLimit);
    if (!inner) {
        return Parsed<PackIndex>::bad(inner.flaw);
    }
    own = {};
    return PackFooter::parse(*inner.value, kind_, id_, trailer.header.generation, trailer.first_footer);
}

void PackOpener::check_head(ObjectReader& reader, const std::string& object, std::uint32_t generation) {
    Bytes head(kPackAlignment);
    salvaging_read(reader, head, 0);
    const auto parsed = parse_object_header(head);
    if (!parsed) {
        note(object, "head: " + parsed.flaw);
    } else if (parsed.value->object_id != id_.bytes || parsed.value->kind != object_kind(kind_) ||
               parsed.value->repository != repository_ || parsed.value->generation != generation) {
        note(object, "head: belongs to another object");
    } else if (!all_zero(std::span<const std::byte>(head).subspan(kHeaderBytes))) {
        note(object, "head: its padding isn't zero");
    }
}

void PackOpener::check_padding(ObjectReader& reader, const std::string& object, const PackTrailer& trailer) {
    const std::uint64_t starts[] = {trailer.first_footer, trailer.second_footer};
    const std::uint64_t ends[] = {trailer.second_footer, trailer.pack_length - 2 * kTrailerBytes};
    for (int copy = 0; copy < 2; ++copy) {
        const std::uint64_t begin = starts[copy] + trailer.footer_length;
        Bytes own;
        // More than a block of padding is possible, but no writer leaves it; a bound keeps a hostile pack from being read whole.
        if (!all_zero(bytes_at(reader, begin, std::min(ends[copy] - begin, kPackAlignment), own))) {
            note(object, copy_name("footer", copy) + ": its padding isn't zero");
        }
    }
}

std::shared_ptr<const PackReader> PackReader::open(Target& target, const Uuid& repository, layout::PackKind kind, const PackId& id,
                                                   const DamageSink& sink, bool check_all_copies) {
    PackOpener opener(target, repository, kind, id, check_all_copies);
    auto opened = opener.open();
    for (Damage damage : opener.damages()) {
        damage.healed = opened != nullptr;
        if (sink) {
            sink(damage);
        }
    }
    if (opened != nullptr) {
        return opened;
    }
    const std::string object = target.describe(layout::pack({kind, id, 0}));
    if (opener.damages().empty()) {
        throw Error::damaged(
            object, "it is missing",
            "run `nodesnap verify` to learn which backups need it; `nodesnap backup --full` stores anew what the node still has");
    }
    const Damage& last = opener.damages().back();
    throw Error::damaged(target.describe(last.object), last.what, "run `nodesnap verify` to learn which backups it affects");
}

std::shared_ptr<const PackReader> PackReader::open_generation(Target& target, const Uuid& repository, const layout::PackName& name,
                                                              const DamageSink& sink) {
    PackOpener opener(target, repository, name.kind, name.id, true);
    if (opener.try_generation(name.generation) == PackOpener::Presence::kMissing) {
        return nullptr;
    }
    for (Damage damage : opener.damages()) {
        damage.healed = opener.best() != nullptr;
        sink(damage);
    }
    if (opener.best() == nullptr) {
        throw Error::damaged(target.describe(layout::pack(name)), opener.damages().back().what);
    }
    return opener.best();
}

PackReader::PackReader(std::string object, std::unique_ptr<ObjectReader> reader, PackIndex index)
    : object_(std::move(object)), reader_(std::move(reader)), index_(std::move(index)) {}

PackReader::~PackReader() = default;

void PackReader::read_stored(std::span<std::byte> into, std::uint64_t offset) const {
    const std::lock_guard lock(mutex_);
    reader_->read(into, offset);
}

std::uint64_t PackReader::stored_bytes() const {
    return reader_->size();
}

}  // namespace nodesnap
