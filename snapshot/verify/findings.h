// Findings: what a verification found, in bounded memory: damages (each once), which segments and files are lost because of them, and what
// is merely worth knowing. add(), lose() and inform() may be called from any thread, the rest from one.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "platform/error.h"
#include "snapshot/verify.h"

namespace nodesnap {

// Segments of packs that can't be read, as ranges of their numbers; of the first and the last one perhaps not all.
class LostSegments {
public:
    static constexpr std::uint32_t kAll = std::numeric_limits<std::uint32_t>::max();
    static constexpr std::size_t kPacksLimit = 65536;
    static constexpr std::size_t kRangesLimit = 256;  // in one pack; then all between counts as lost

    struct Range {
        std::uint32_t first = 0;
        std::uint32_t last = kAll;
        std::uint32_t from = 0;   // in the first one's plaintext
        std::uint32_t to = kAll;  // end in the last one's plaintext; kAll: its end
    };

    // Ranges of one pack are added in ascending order. Returns false when there are too many packs to keep.
    bool add(const PackId& pack, const Range& range);
    bool empty() const { return packs_.empty(); }
    // The lost ranges of a pack that meet the segments [first, last].
    std::vector<Range> within(const PackId& pack, std::uint32_t first, std::uint32_t last) const;

private:
    std::map<PackId, std::vector<Range>> packs_;
};

// Of the repository, rather than that something doesn't work.
bool is_damage(const Error& error);

class Findings {
public:
    explicit Findings(VerifyResult& result) : result_(result) {}

    void add(const Damage& damage);
    DamageSink sink() {
        return [this](const Damage& damage) { add(damage); };
    }
    void lose(const PackId& pack, const LostSegments::Range& range);
    // A file of which not all data can be told, because its map or record is damaged.
    void lose_file(const SessionId& backup, std::uint64_t ino);
    // A backup whose tree of names isn't whole: what can't be reached in it has been told as that.
    void lose_tree(const SessionId& backup) { lost_trees_.insert(backup); }
    void affect(std::string text);
    void inform(std::string text);

    // All that another one has, of which nothing was taken before.
    void take_over(const Findings& other);

    bool anything() const { return result_.damage_count != 0 || result_.affected_count != 0; }
    bool anything_lost() const { return !lost_.empty() || !lost_files_.empty(); }
    const LostSegments& lost() const { return lost_; }
    bool is_lost_tree(const SessionId& backup) const { return lost_trees_.contains(backup); }
    bool is_lost_file(const SessionId& backup, std::uint64_t ino) const { return lost_files_.contains({backup, ino}); }

private:
    static constexpr std::size_t kRemembered = 20000;

    void keep_information(std::string text);  // the mutex is held

    VerifyResult& result_;
    std::mutex mutex_;
    std::set<std::pair<std::uint64_t, std::uint64_t>> seen_;  // checksums of damages
    LostSegments lost_;
    std::set<std::pair<SessionId, std::uint64_t>> lost_files_;
    std::set<SessionId> lost_trees_;
    bool incomplete_ = false;  // more was lost than is kept
};

}  // namespace nodesnap
