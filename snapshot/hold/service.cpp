#include "snapshot/hold/service.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>
#include <utility>

#include "platform/error.h"

namespace nodesnap::hold {
namespace {

constexpr std::chrono::seconds kAskLimit{30};

std::vector<std::string> words_of(const std::string& text) {
    std::istringstream stream(text);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) {
        words.push_back(word);
    }
    return words;
}

}  // namespace

std::optional<std::int64_t> parse_systemd_span(std::string_view text) {
    static constexpr std::array<std::pair<std::string_view, std::int64_t>, 10> kUnits{{{"us", 1'000},
                                                                                       {"ms", 1'000'000},
                                                                                       {"s", 1'000'000'000},
                                                                                       {"min", 60'000'000'000},
                                                                                       {"h", 3'600'000'000'000},
                                                                                       {"d", 86'400'000'000'000},
                                                                                       {"w", 604'800'000'000'000},
                                                                                       {"week", 604'800'000'000'000},
                                                                                       {"month", 2'629'800'000'000'000},
                                                                                       {"y", 31'557'600'000'000'000}}};
    std::int64_t total = 0;
    for (const std::string& word : words_of(std::string(text))) {
        double number = 0;
        const auto parsed = std::from_chars(word.data(), word.data() + word.size(), number);
        const std::string_view unit(parsed.ptr, static_cast<std::size_t>(word.data() + word.size() - parsed.ptr));
        const auto* const known = std::find_if(kUnits.begin(), kUnits.end(), [&](const auto& entry) { return entry.first == unit; });
        if (parsed.ec != std::errc() || known == kUnits.end()) {
            return std::nullopt;
        }
        total += static_cast<std::int64_t>(number * static_cast<double>(known->second));
    }
    return total > 0 ? std::optional(total) : std::nullopt;
}

Service::Service(std::string systemctl, const std::string& unit) : systemctl_(std::move(systemctl)), unit_(unit) {
    if (unit.empty() || unit.starts_with('-') || unit.find_first_of("/ \n") != std::string::npos) {
        throw Error::usage("\"" + unit + "\" isn't the name of a unit");
    }
    if (unit.find('.') == std::string::npos) {
        unit_ += ".service";
    }
}

Service::State Service::state(const std::function<void()>& while_waiting) const {
    return state_of(unit_, while_waiting);
}

Service::State Service::state_of(const std::string& unit, const std::function<void()>& while_waiting) const {
    const ProgramResult result = run_program(
        {{systemctl_, "show",
          "--property=LoadState,ActiveState,Result,ControlGroup,WatchdogUSec,ActiveEnterTimestampMonotonic,RequiredBy,BoundBy,ConsistsOf",
          "--", unit},
         {"LC_ALL=C", "SYSTEMD_PAGER="},
         kAskLimit,
         -1,
         while_waiting});
    if (!result.succeeded()) {
        throw Error::failed("cannot ask " + systemctl_ + " for unit " + unit + ": " + result.explanation());
    }
    State state;
    std::istringstream lines(result.output);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t equals = line.find('=');
        const std::string key = line.substr(0, equals);
        const std::string value = equals == std::string::npos ? "" : line.substr(equals + 1);
        if (key == "LoadState") {
            state.found = value != "not-found";
        } else if (key == "ActiveState") {
            state.active = value;
        } else if (key == "Result") {
            state.result = value;
        } else if (key == "ControlGroup") {
            state.control_group = value;
        } else if (key == "WatchdogUSec") {
            state.watchdog_ns = parse_systemd_span(value);
        } else if (key == "ActiveEnterTimestampMonotonic") {
            std::from_chars(value.data(), value.data() + value.size(), state.active_since_us);
        } else if (key == "RequiredBy" || key == "BoundBy" || key == "ConsistsOf") {
            const auto units = words_of(value);
            state.reverse.insert(state.reverse.end(), units.begin(), units.end());
        }
    }
    if (state.active.empty()) {
        throw Error::failed("cannot ask " + systemctl_ + " for unit " + unit + ": its answer has no ActiveState");
    }
    return state;
}

std::vector<std::string> Service::running_dependents() const {
    std::vector<std::string> found;
    std::vector<std::string> to_ask = state().reverse;
    std::vector<std::string> asked{unit_};
    while (!to_ask.empty()) {
        const std::string unit = to_ask.back();
        to_ask.pop_back();
        if (std::find(asked.begin(), asked.end(), unit) != asked.end()) {
            continue;
        }
        asked.push_back(unit);
        // A target that requires the unit goes down with it too.
        const State state = state_of(unit);
        if (!state.running()) {
            continue;
        }
        found.push_back(unit);
        if (found.size() > kMostDependents) {
            throw Error::refused("more than " + std::to_string(kMostDependents) + " units depend on " + unit_,
                                 "hold the daemon by --hold freeze");
        }
        to_ask.insert(to_ask.end(), state.reverse.begin(), state.reverse.end());
    }
    std::sort(found.begin(), found.end());
    return found;
}

ProgramRun Service::stop(std::chrono::nanoseconds limit) const {
    return {{systemctl_, "stop", "--", unit_}, {"LC_ALL=C"}, limit, -1, {}};
}

ProgramRun Service::reset_failed() const {
    return {{systemctl_, "reset-failed", "--", unit_}, {"LC_ALL=C"}, kAskLimit, -1, {}};
}

ProgramRun Service::start(const std::vector<std::string>& others, std::chrono::nanoseconds limit) const {
    std::vector<std::string> arguments{systemctl_, "start", "--", unit_};
    arguments.insert(arguments.end(), others.begin(), others.end());
    return {arguments, {"LC_ALL=C"}, limit, -1, {}};
}

}  // namespace nodesnap::hold
