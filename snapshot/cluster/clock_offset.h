// ClockOffset: how much further another host's monotonic clock is than this one's, from messages that went there and came back.
//
// Of all that were measured the quickest counts: the other clock was read somewhere between the two instants here, so the offset is known
// up to half of the time between them. Not thread-safe.
#pragma once

#include <cstdint>
#include <limits>

namespace nodesnap::cluster {

class ClockOffset {
public:
    // Sent and received by the clock here, `there` by the other one; nanoseconds.
    void add(std::int64_t sent_ns, std::int64_t there_ns, std::int64_t received_ns) {
        if (received_ns >= sent_ns && received_ns - sent_ns < round_trip_ns_) {
            round_trip_ns_ = received_ns - sent_ns;
            offset_ns_ = there_ns - (sent_ns + round_trip_ns_ / 2);
        }
    }
    bool known() const { return round_trip_ns_ != kUnknown; }
    std::int64_t here(std::int64_t there_ns) const { return there_ns - offset_ns_; }  // the same instant by the clock here
    std::int64_t round_trip_ns() const { return known() ? round_trip_ns_ : 0; }       // the shortest
    std::int64_t doubt_ns() const { return round_trip_ns() / 2; }                     // by how much here() may be wrong, either way

private:
    static constexpr std::int64_t kUnknown = std::numeric_limits<std::int64_t>::max();
    std::int64_t round_trip_ns_ = kUnknown;
    std::int64_t offset_ns_ = 0;
};

}  // namespace nodesnap::cluster
