#include "snapshot/retention.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "io/units.h"

namespace nodesnap {
namespace {

using Order = std::vector<std::size_t>;  // of backups, the newest first
using Verdicts = std::vector<std::vector<KeepReason>>;
using Period = std::int64_t (*)(std::int64_t utc_ns);

std::chrono::sys_days day_of(std::int64_t utc_ns) {
    return std::chrono::floor<std::chrono::days>(std::chrono::sys_time<std::chrono::nanoseconds>(std::chrono::nanoseconds(utc_ns)));
}

std::int64_t hour(std::int64_t utc_ns) {
    return std::chrono::floor<std::chrono::hours>(std::chrono::nanoseconds(utc_ns)).count();
}

std::int64_t day(std::int64_t utc_ns) {
    return day_of(utc_ns).time_since_epoch().count();
}

std::int64_t week(std::int64_t utc_ns) {
    constexpr std::chrono::days kMondayBefore1970{3};
    return std::chrono::floor<std::chrono::weeks>(day_of(utc_ns).time_since_epoch() + kMondayBefore1970).count();
}

std::int64_t year(std::int64_t utc_ns) {
    return static_cast<int>(std::chrono::year_month_day(day_of(utc_ns)).year());
}

std::int64_t month(std::int64_t utc_ns) {
    return year(utc_ns) * 12 + static_cast<unsigned>(std::chrono::year_month_day(day_of(utc_ns)).month());
}

struct CountedRule {
    KeepRule rule;
    unsigned RetentionRules::*count;
    Period period;  // nullptr: each backup is one of its own
};
constexpr CountedRule kCountedRules[] = {
    {KeepRule::kLast, &RetentionRules::last, nullptr},     {KeepRule::kHourly, &RetentionRules::hourly, hour},
    {KeepRule::kDaily, &RetentionRules::daily, day},       {KeepRule::kWeekly, &RetentionRules::weekly, week},
    {KeepRule::kMonthly, &RetentionRules::monthly, month}, {KeepRule::kYearly, &RetentionRules::yearly, year},
};

Order newest_first(const std::vector<RetentionBackup>& backups) {
    Order order(backups.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return std::tie(backups[b].sequence, backups[b].utc_ns, b) < std::tie(backups[a].sequence, backups[a].utc_ns, a);
    });
    return order;
}

// Judges the backups of `order`, and notes what becomes of the good ones among them, or of the others.
class Judgement {
public:
    Judgement(const RetentionRules& rules, const std::vector<RetentionBackup>& backups, Order order, bool of_good, Verdicts& verdicts)
        : rules_(rules), backups_(backups), order_(std::move(order)), of_good_(of_good), verdicts_(verdicts) {}

    void pass(std::int64_t now_ns) {
        for (const CountedRule& rule : kCountedRules) {
            count(rule);
        }
        if (rules_.within && !order_.empty()) {
            keep_within(std::min(now_ns, backups_[order_.front()].utc_ns));
        }
    }

private:
    void count(const CountedRule& rule) {
        const unsigned limit = rules_.*rule.count;
        struct Seen {
            unsigned place;
            std::size_t newest, first;  // backups
            bool received = false;      // any of them
        };
        std::map<std::int64_t, Seen> seen;
        unsigned place = 0;
        for (const std::size_t at : order_) {
            if (rule.period == nullptr) {
                if (place < limit) {
                    keep(at, {rule.rule, ++place});
                }
                continue;
            }
            const std::int64_t period = rule.period(backups_[at].utc_ns);
            auto found = seen.find(period);
            if (found == seen.end()) {
                if (place == limit) {
                    continue;  // a later one may still be of a period that was seen
                }
                keep(at, {rule.rule, ++place});
                found = seen.emplace(period, Seen{place, at, at}).first;
            }
            found->second.first = at;
            found->second.received = found->second.received || backups_[at].received;
        }
        for (const auto& [period, of] : seen) {
            if (of.received && of.first != of.newest) {
                keep(of.first, {rule.rule, of.place});
            }
        }
    }

    // A backup whose clock ran backwards, or was ahead, is taken to be as old as the one before it: otherwise the one would go too early,
    // the other stay for ever.
    void keep_within(std::int64_t reference_ns) {
        std::optional<std::int64_t> time;
        for (auto at = order_.rbegin(); at != order_.rend(); ++at) {
            const std::int64_t own = backups_[*at].utc_ns;
            if (own <= reference_ns) {
                time = std::max(own, time.value_or(own));
            }
            // In unsigned arithmetic: what is stored may be any number.
            const std::uint64_t age = static_cast<std::uint64_t>(reference_ns) - static_cast<std::uint64_t>(time.value_or(reference_ns));
            if (age <= static_cast<std::uint64_t>(rules_.within->count())) {
                keep(*at, {KeepRule::kWithin});
            }
        }
    }

    void keep(std::size_t backup, KeepReason reason) {
        if (backups_[backup].good == of_good_) {
            verdicts_[backup].push_back(reason);
        }
    }

    const RetentionRules& rules_;
    const std::vector<RetentionBackup>& backups_;
    Order order_;
    bool of_good_;
    Verdicts& verdicts_;
};

bool has_all(const std::vector<std::string>& tags, const std::vector<std::string>& wanted) {
    return std::all_of(wanted.begin(), wanted.end(),
                       [&](const std::string& tag) { return std::find(tags.begin(), tags.end(), tag) != tags.end(); });
}

// Also one that comes from the future: the clock of its server was wrong, or is.
bool came_lately(const RetentionRules& rules, const RetentionBackup& backup, std::int64_t now_ns) {
    return backup.received && (backup.utc_ns > now_ns || now_ns - backup.utc_ns < rules.received_within.count());
}

void keep_without_counting(const RetentionRules& rules, const RetentionBackup& backup, std::int64_t now_ns,
                           std::vector<KeepReason>& reasons) {
    if (rules.received_within.count() > 0 && came_lately(rules, backup, now_ns)) {
        reasons.push_back({KeepRule::kReceived});
    }
    for (std::size_t i = 0; i < rules.tags.size(); ++i) {
        if (backup.readable && has_all(backup.tags, rules.tags[i])) {
            reasons.push_back({KeepRule::kTag, static_cast<unsigned>(i)});
        }
    }
    if (backup.pinned) {
        reasons.push_back({KeepRule::kPinned});
    }
    if (!backup.readable) {
        reasons.push_back({KeepRule::kUnreadable});
    } else if (backup.held) {
        reasons.push_back({*backup.held});
    }
}

std::string joined(const std::vector<std::string>& tags) {
    std::string text;
    for (const std::string& tag : tags) {
        text += (text.empty() ? "" : ",") + tag;
    }
    return text;
}

}  // namespace

bool RetentionRules::empty() const {
    return std::all_of(std::begin(kCountedRules), std::end(kCountedRules),
                       [this](const CountedRule& rule) { return this->*rule.count == 0; }) &&
           !within && tags.empty();
}

std::string to_string(KeepRule rule) {
    switch (rule) {
        case KeepRule::kLast:
            return "last";
        case KeepRule::kHourly:
            return "hourly";
        case KeepRule::kDaily:
            return "daily";
        case KeepRule::kWeekly:
            return "weekly";
        case KeepRule::kMonthly:
            return "monthly";
        case KeepRule::kYearly:
            return "yearly";
        case KeepRule::kWithin:
            return "within";
        case KeepRule::kTag:
            return "tag";
        case KeepRule::kPinned:
            return "pinned";
        case KeepRule::kNewest:
            return "newest";
        case KeepRule::kUnreadable:
            return "unreadable";
        case KeepRule::kUnfinished:
            return "unfinished";
        case KeepRule::kBuiltOn:
            return "built-on";
        case KeepRule::kNewerVersion:
            return "newer-version";
        case KeepRule::kCluster:
            return "cluster";
        case KeepRule::kNotNamed:
            return "not-named";
        case KeepRule::kReceived:
            return "received";
        case KeepRule::kReceipt:
            return "receipt";
    }
    return "unknown";
}

std::string describe(const KeepReason& reason, const RetentionRules& rules) {
    for (const CountedRule& rule : kCountedRules) {
        if (rule.rule == reason.rule) {
            return to_string(reason.rule) + " " + std::to_string(reason.place) + " of " + std::to_string(rules.*rule.count);
        }
    }
    switch (reason.rule) {
        case KeepRule::kWithin:
            return "within " + human_duration(rules.within.value_or(std::chrono::nanoseconds(0)));
        case KeepRule::kTag:
            return "tag " + (reason.place < rules.tags.size() ? joined(rules.tags[reason.place]) : "");
        case KeepRule::kNewest:
            return "the newest good one";
        case KeepRule::kUnreadable:
            return "can't be read, \"nodesnap repair\" first";
        case KeepRule::kUnfinished:
            return "the next backup must clear up after it first";
        case KeepRule::kBuiltOn:
            return "a backup that was cut off builds on it, run that again first";
        case KeepRule::kNewerVersion:
            return "only a newer version of nodesnap may remove it";
        case KeepRule::kCluster:
            return "a part of a cluster backup";
        case KeepRule::kNotNamed:
            return "not named";
        case KeepRule::kReceived:
            return "received less than " + human_duration(rules.received_within) + " ago";
        case KeepRule::kReceipt:
            return "its receipt can't be read";
        default:
            return to_string(reason.rule);
    }
}

std::optional<std::size_t> newest_of(const std::vector<RetentionBackup>& backups) {
    const Order order = newest_first(backups);
    const auto readable = [&](std::size_t i) { return backups[i].readable; };
    auto found = std::find_if(order.begin(), order.end(), [&](std::size_t i) { return readable(i) && backups[i].good; });
    if (found == order.end()) {
        found = std::find_if(order.begin(), order.end(), readable);
    }
    return found == order.end() ? std::nullopt : std::optional(*found);
}

Verdicts apply_retention(const RetentionRules& rules, const std::vector<RetentionBackup>& backups, std::int64_t now_ns) {
    Verdicts verdicts(backups.size());
    Order all = newest_first(backups);
    std::erase_if(all, [&](std::size_t i) { return !backups[i].readable; });
    Order good = all;
    std::erase_if(good, [&](std::size_t i) { return !backups[i].good; });
    Judgement(rules, backups, std::move(good), true, verdicts).pass(now_ns);
    Judgement(rules, backups, std::move(all), false, verdicts).pass(now_ns);
    for (std::size_t i = 0; i < backups.size(); ++i) {
        keep_without_counting(rules, backups[i], now_ns, verdicts[i]);
    }
    if (const auto newest = newest_of(backups)) {
        verdicts[*newest].push_back({KeepRule::kNewest});
    }
    return verdicts;
}

bool is_mass_expiry(std::size_t removed, std::size_t readable) noexcept {
    return removed > readable / 2;
}

}  // namespace nodesnap
