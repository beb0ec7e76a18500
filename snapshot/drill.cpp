#include "snapshot/drill.h"

#include <utility>
#include <vector>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
#include "platform/program_run.h"
#include "snapshot/drill/daemon.h"
#include "snapshot/drill/place.h"
#include "snapshot/scratch.h"

namespace nodesnap {
namespace {

constexpr std::size_t kToldBytes = 2000;
constexpr int kCannotExecute = 126;  // as the shell tells
constexpr int kNotFound = 127;
constexpr std::chrono::seconds kReadyLimit{30};              // of one question whether it is ready
constexpr std::chrono::milliseconds kBetweenQuestions{100};  // a daemon takes seconds to come up

std::string end_of(std::string text) {
    while (text.ends_with('\n')) {
        text.pop_back();
    }
    return text.size() > kToldBytes ? text.substr(text.size() - kToldBytes) : text;
}

// One run of `drill`, step by step.
class Drill {
public:
    Drill(Repository& repository, const Manifest& backup, const DrillOptions& options, Progress& progress, Report& report)
        : repository_(repository),
          backup_(backup),
          options_(options),
          progress_(progress),
          report_(report),
          place_(scratch_directory_or_default(options.scratch_directory), report),
          environment_({"NODESNAP_DIRECTORY=" + place_.destination(), "NODESNAP_BACKUP=" + backup.id.hex(), "NODESNAP_REASON=drill"}) {}

    DrillResult run() {
        RestoreOptions restore = options_.restore;
        restore.destination = place_.destination();
        result_.restore = run_restore(repository_, backup_, restore, progress_, report_);
        fault::step("drill.restored");
        validate();
        if (!failed(result_.validation)) {
            start();
        }
        if (options_.keep) {
            result_.kept_as = place_.keep();
        }
        return std::move(result_);
    }

private:
    static bool failed(const std::optional<DrillStep>& step) { return step && step->outcome == DrillStep::Outcome::kFailed; }

    ProgramResult run_command(const std::string& command, std::chrono::nanoseconds limit) const {
        ProgramRun run;
        run.arguments = {"/bin/sh", "-c", command};
        run.environment = environment_;
        run.time_limit = limit;
        run.give_up = [] { return interrupted(); };
        ProgramResult result = run_program(run);
        throw_if_interrupted();
        return result;
    }

    void validate() {
        if (options_.validate_command.empty()) {
            return;
        }
        progress_.phase = "validating";
        const std::int64_t begun = monotonic_ns();
        const ProgramResult result = run_command(options_.validate_command, options_.validate_limit);
        DrillStep step;
        step.elapsed = std::chrono::nanoseconds(monotonic_ns() - begun);
        step.output = end_of(result.output);
        if (result.succeeded()) {
            step.outcome = DrillStep::Outcome::kPassed;
        } else {
            const bool missing = result.exit_code == kNotFound || result.exit_code == kCannotExecute;
            step.outcome = missing ? DrillStep::Outcome::kNotRun : DrillStep::Outcome::kFailed;
            step.explanation = result.explanation();
        }
        result_.validation = std::move(step);
        fault::step("drill.validated");
    }

    void start() {
        if (options_.start_command.empty()) {
            return;
        }
        progress_.phase = "starting the daemon";
        const std::int64_t begun = monotonic_ns();
        DrillDaemon daemon(options_.start_command, environment_, place_.path() + "/daemon.log");
        fault::step("drill.started");
        DrillStep step;
        step.explanation = wait_until_ready(daemon, begun);
        step.elapsed = std::chrono::nanoseconds(monotonic_ns() - begun);
        step.outcome = step.explanation.empty() ? DrillStep::Outcome::kPassed : DrillStep::Outcome::kFailed;
        if (!daemon.ended()) {
            stop(daemon);
        }
        step.output = daemon.last_words();
        result_.start = std::move(step);
    }

    // Empty when it is; otherwise why it won't be.
    std::string wait_until_ready(const DrillDaemon& daemon, std::int64_t begun) const {
        const std::int64_t deadline = begun + options_.start_limit.count();
        while (true) {
            const ProgramResult answer = run_command(options_.ready_command, kReadyLimit);
            if (daemon.ended()) {
                return "the start command ended before the daemon was ready";
            }
            if (answer.succeeded()) {
                return "";
            }
            if (monotonic_ns() >= deadline) {
                return "it wasn't ready in time; the last question was answered with: " + answer.explanation();
            }
            daemon.wait_ended(monotonic_ns() + std::chrono::nanoseconds(kBetweenQuestions).count());
        }
    }

    void stop(DrillDaemon& daemon) {
        progress_.phase = "stopping the daemon";
        bool asked = false;
        if (!options_.stop_command.empty()) {
            const ProgramResult result = run_command(options_.stop_command, options_.stop_limit);
            asked = result.succeeded();
            if (!asked) {
                report_.warn("the stop command failed (" + result.explanation() + "): the daemon got SIGTERM instead");
            }
        }
        if (!daemon.stop(asked, options_.stop_limit)) {
            report_.warn("the daemon that was started on the restored directory did not stop in time: it was killed");
        }
    }

    Repository& repository_;
    const Manifest& backup_;
    const DrillOptions& options_;
    Progress& progress_;
    Report& report_;
    DrillPlace place_;
    std::vector<std::string> environment_;
    DrillResult result_;
};

}  // namespace

std::chrono::nanoseconds DrillResult::recovery_time() const {
    return restore.elapsed + (validation ? validation->elapsed : std::chrono::nanoseconds(0)) +
           (start ? start->elapsed : std::chrono::nanoseconds(0));
}

bool DrillResult::passed() const {
    return (!validation || validation->outcome == DrillStep::Outcome::kPassed) && (!start || start->outcome == DrillStep::Outcome::kPassed);
}

DrillResult run_drill(Repository& repository, const Manifest& backup, const DrillOptions& options, Progress& progress, Report& report) {
    if (options.start_command.empty() != options.ready_command.empty()) {
        throw Error::refused("a daemon is started and asked whether it is ready: one without the other proves nothing",
                             "give both commands");
    }
    return Drill(repository, backup, options, progress, report).run();
}

}  // namespace nodesnap
