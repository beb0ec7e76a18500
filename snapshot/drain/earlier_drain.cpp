#include "snapshot/drain/earlier_drain.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <tuple>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/repository/external_sorter.h"
#include "snapshot/repository/external_sorter_file.h"
#include "snapshot/repository/pack_log.h"

namespace nodesnap {
namespace {

constexpr std::size_t kSorterMemory = 4U << 20;
constexpr std::size_t kPlacesPerBlock = 4096;
constexpr std::uint64_t kBehindAll = std::numeric_limits<std::uint64_t>::max();  // where a file that is stored as a whole ends

std::string sort_key(std::uint64_t ino, std::uint64_t offset) {
    std::string key(2 * sizeof ino, '\0');
    for (std::size_t i = 0; i < sizeof ino; ++i) {
        key[i] = static_cast<char>(ino >> (56 - 8 * i));
        key[sizeof ino + i] = static_cast<char>(offset >> (56 - 8 * i));
    }
    return key;
}

// What waits to be sorted: a run, or with length 0 the word that a file is stored as a whole.
struct Gathered {
    std::uint64_t ino = 0;
    Run run;
};

// Throws Error::damaged if a log, its pack or the log before it is missing or damaged; then `sink` may have been told a part. Returns the
// packs.
std::vector<PackId> read_logs(const Repository& repository, const SessionRecord& session, const PackLogSink& sink) {
    std::vector<PackId> packs = repository.logged_packs(session);
    const std::set<PackId> known(packs.begin(), packs.end());
    for (const PackId& pack : packs) {
        interrupt::throw_if_interrupted();
        const std::string object = layout::pack_log(pack);
        const std::string shown = repository.target().describe(object);
        const auto stored = repository.target().load(object, kPackLogLimit);
        if (!stored) {
            throw Error::damaged(shown, "it is missing");
        }
        const PackLogHead head = read_pack_log(stored->content, shown, repository.info().uuid, pack, sink);
        if (head.before && !known.contains(*head.before)) {
            throw Error::damaged(shown, "the log before it is missing");
        }
        repository.packs().get(layout::PackKind::kData, pack);
    }
    return packs;
}

}  // namespace

// Turns sorted runs into the places of the file.
class EarlierDrain::Filler {
public:
    Filler(EarlierDrain& drain, Catalog& catalog, const SessionId& session) : drain_(drain), catalog_(catalog), session_(session) {}

    void add(const Gathered& gathered) {
        const Run& run = gathered.run;
        const bool whole = run.length == 0;
        const bool same = place_.end != 0 && place_.ino == gathered.ino;
        if (same && run.offset < place_.end) {
            return;  // a former writer that was only stopped has logged it too
        }
        if (!whole) {
            catalog_.add_run(gathered.ino, run);
            drain_.new_bytes_ += run.pack.session() == session_ ? run.length : 0;
        }
        if (same && run.offset == place_.end) {
            place_.end = run.end();
            return;
        }
        close_place();
        place_ = {gathered.ino, run.offset, whole ? kBehindAll : run.end()};
    }

    void finish() {
        close_place();
        flush();
    }

private:
    void close_place() {
        if (place_.end != 0) {
            if (block_.empty()) {
                drain_.index_.push_back(place_);
            }
            block_.push_back(place_);
            ++drain_.places_;
        }
        if (block_.size() == kPlacesPerBlock) {
            flush();
        }
    }

    void flush() {
        if (!block_.empty()) {
            const std::uint64_t offset = (drain_.index_.size() - 1) * kPlacesPerBlock * sizeof(Place);
            pwrite_all(drain_.file_.get(), std::as_bytes(std::span(block_)), offset, "temporary file in " + drain_.directory_);
        }
        block_.clear();
    }

    EarlierDrain& drain_;
    Catalog& catalog_;
    const SessionId& session_;
    Place place_;
    std::vector<Place> block_;
};

EarlierDrain::EarlierDrain(const Repository& repository, const SessionRecord& session, const std::string& scratch_directory,
                           Catalog& catalog, const std::function<void(const Inode&)>& whole_file)
    : directory_(scratch_directory), file_(open_unnamed(scratch_directory)) {
    ExternalSorter sorter(scratch_directory, kSorterMemory);
    const auto gather = [&](std::uint64_t ino, const Run& run) {
        const Gathered gathered{ino, run};
        sorter.add(sort_key(ino, run.offset), {reinterpret_cast<const char*>(&gathered), sizeof gathered});
    };
    PackLogSink sink;
    sink.inode = [&](std::uint64_t ino, const Inode& inode) {
        catalog.add_inode(ino, inode);
        gather(ino, {});
        new_bytes_ += inode.content.size();
        for (const Run& run : inode.runs) {
            new_bytes_ += run.pack.session() == session.id ? run.length : 0;
        }
        whole_file(inode);
    };
    sink.xattr = [&](std::uint64_t ino, std::string_view name, const Xattr& xattr) { catalog.add_xattr(ino, name, xattr); };
    sink.run = gather;
    packs_ = read_logs(repository, session, sink);
    for (const PackId& pack : packs_) {
        stored_bytes_ += repository.packs().get(layout::PackKind::kData, pack)->stored_bytes();
    }
    Filler filler(*this, catalog, session.id);
    std::string_view key;
    std::string_view value;
    while (sorter.next(key, value)) {
        Gathered gathered;
        std::memcpy(&gathered, value.data(), sizeof gathered);
        filler.add(gathered);
    }
    filler.finish();
}

std::string flaw_of_logs(const Repository& repository, const SessionRecord& session) {
    PackLogSink nowhere;
    nowhere.inode = [](std::uint64_t, const Inode&) {};
    nowhere.xattr = [](std::uint64_t, std::string_view, const Xattr&) {};
    nowhere.run = [](std::uint64_t, const Run&) {};
    try {
        read_logs(repository, session, nowhere);
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        return error.message();
    }
    return {};
}

const std::vector<EarlierDrain::Place>& EarlierDrain::block(std::size_t number) const {
    if (block_number_ != number) {
        block_number_.reset();
        const std::uint64_t first = number * kPlacesPerBlock;
        block_.resize(std::min<std::uint64_t>(kPlacesPerBlock, places_ - first));
        pread_exact(file_.get(), std::as_writable_bytes(std::span(block_)), first * sizeof(Place), "temporary file in " + directory_);
        block_number_ = number;
    }
    return block_;
}

bool EarlierDrain::holds(std::uint64_t ino) const {
    const auto range = next_range(ino, 0);
    return range && range->end == kBehindAll;
}

std::optional<EarlierDrain::Range> EarlierDrain::next_range(std::uint64_t ino, std::uint64_t from) const {
    const auto behind = [](const std::pair<std::uint64_t, std::uint64_t>& wanted, const Place& place) {
        return wanted < std::pair(place.ino, place.offset);
    };
    const std::pair wanted(ino, from);
    const std::lock_guard lock(mutex_);
    const auto found = std::upper_bound(index_.begin(), index_.end(), wanted, behind);
    // The place before may reach behind `from`; the one after it may be in the next block.
    std::size_t number = static_cast<std::size_t>(found - index_.begin());
    number -= number == 0 ? 0 : 1;
    for (; number < index_.size(); ++number) {
        const std::vector<Place>& places = block(number);
        auto place = std::upper_bound(places.begin(), places.end(), wanted, behind);
        place -= place == places.begin() ? 0 : 1;
        for (; place != places.end(); ++place) {
            if (place->ino == ino && place->end > from) {
                return Range{place->offset, place->end};
            }
            if (place->ino > ino) {
                return std::nullopt;
            }
        }
    }
    return std::nullopt;
}

}  // namespace nodesnap
