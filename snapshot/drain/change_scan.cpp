#include "snapshot/drain/change_scan.h"

#include <fcntl.h>

#include "platform/clock.h"
#include "platform/file.h"
#include "snapshot/drain/source_walk.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;

class ChangeSink : public SourceSink {
public:
    ChangeSink(std::int64_t since_ns, const std::function<bool(const FileStatus&)>& is_ours)
        : since_ns_(since_ns), is_ours_(is_ours), now_ns_(utc_now_ns()) {}

    void found(std::uint64_t, const std::string&, const Dirent&) override {}

    void take(std::unique_ptr<Batch> batch) override {
        for (const SourceEntry& entry : batch->entries) {
            const int directory = batch->directory->fd.get();
            const auto status = entry.name.empty() ? std::optional(stat_fd(directory)) : stat_at(directory, entry.name);
            if (!status || status->stx_ino != entry.ino || (changed(status->stx_ctime) && !(is_ours_ && is_ours_(*status)))) {
                const std::string path = batch->directory->place.path_of(entry.name);
                changed_ = path.empty() ? "." : path;
                return;
            }
        }
    }

    void unreadable(const std::string&, const Error& error) override { throw error; }
    void lost(std::uint64_t) override {}
    bool stopped() const override { return changed_.has_value(); }

    const std::optional<std::string>& result() const { return changed_; }

private:
    // Some file systems keep whole seconds. A time to come is that of a clock that was wrong then, not a change made now.
    bool changed(const struct statx_timestamp& stamp) const {
        const std::int64_t from = stamp.tv_nsec == 0 ? since_ns_ / kSecondNs * kSecondNs : since_ns_;
        const std::int64_t at = stamp.tv_sec * kSecondNs + stamp.tv_nsec;
        return at >= from && at <= now_ns_ + kSecondNs;
    }

    std::int64_t since_ns_;
    const std::function<bool(const FileStatus&)>& is_ours_;
    std::int64_t now_ns_;
    std::optional<std::string> changed_;
};

}  // namespace

std::optional<std::string> changed_since(int root, std::uint64_t root_ino, const ExcludeRules& excludes, std::int64_t since_ns,
                                         const std::function<bool(const FileStatus&)>& is_ours) {
    ChangeSink sink(since_ns, is_ours);
    SourceWalk(root, root_ino, excludes, sink).run();
    return sink.result();
}

}  // namespace nodesnap
