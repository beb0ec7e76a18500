#include "snapshot/cluster/agent.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/host.h"
#include "platform/interrupt.h"
#include "snapshot/cluster/agent_gates.h"

namespace nodesnap::cluster {
namespace {

// Tells every second how far a backup has come.
class Telling {
public:
    Telling(ClusterLink& link, const Progress& progress) : thread_([this, &link, &progress] { run(link, progress); }) {}
    Telling(const Telling&) = delete;
    Telling& operator=(const Telling&) = delete;
    ~Telling() {
        {
            const std::scoped_lock lock(mutex_);
            done_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }

private:
    void run(ClusterLink& link, const Progress& progress) {
        std::unique_lock lock(mutex_);
        while (!changed_.wait_for(lock, std::chrono::seconds(1), [this] { return done_; })) {
            if (!progress.silent && !link.ended()) {
                link.say({{"is", "progress"},
                          {"phase", progress.phase.load()},
                          {"done", progress.bytes_done.load()},
                          {"total", progress.totals_final ? progress.bytes_total.load() : 0}});
            }
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    bool done_ = false;
    std::thread thread_;
};

std::vector<std::string> words_of(const Json& message) {
    const auto found = message.find("words");
    if (found == message.end() || !found->is_array()) {
        throw Error::failed("the coordinator has given no words");
    }
    std::vector<std::string> words;
    for (const Json& word : *found) {
        if (!word.is_string()) {
            throw Error::failed("the coordinator has given words that are no texts");
        }
        words.push_back(word.get<std::string>());
    }
    return words;
}

class Agent {
public:
    Agent(FileDescriptor in, FileDescriptor out, const AgentWork& work)
        : work_(work),
          link_(std::move(in), std::move(out),
                {[this](const Json& message, std::int64_t) { heard(message); }, [this](const std::string& why) { lost(why); }}) {}

    void run() {
        link_.say({{"is", "here"}, {"version", NODESNAP_VERSION}, {"host", host_name()}, {"machine", machine_id()}});
        while (const auto job = next_job()) {
            try {
                do_job(*job);
            } catch (const Error& error) {
                link_.say(error_message(error));
            } catch (const std::exception& error) {
                link_.say(error_message(Error::failed(error.what())));
            }
        }
        link_.close_saying();
        if (!why_lost_.empty()) {
            throw Error::failed("the connection to the coordinator has ended: " + why_lost_);
        }
    }

private:
    void heard(const Json& message) {
        const std::string word = text_of(message, "do");
        const std::scoped_lock lock(mutex_);
        if (gates_ != nullptr && word != "job") {
            gates_->heard(message);
        } else {
            jobs_.push_back(message);
            changed_.notify_all();
        }
    }

    void lost(const std::string& why) {
        const std::scoped_lock lock(mutex_);
        lost_ = true;
        why_lost_ = why;
        if (gates_ != nullptr) {
            gates_->lost(why);
        }
        changed_.notify_all();
    }

    std::optional<Json> next_job() {
        std::unique_lock lock(mutex_);
        while (jobs_.empty() && !lost_) {
            changed_.wait_for(lock, std::chrono::milliseconds(200));
            throw_if_interrupted();
        }
        if (jobs_.empty()) {
            return std::nullopt;
        }
        Json job = std::move(jobs_.front());
        jobs_.pop_front();
        return job;
    }

    void do_job(const Json& job) {
        if (text_of(job, "do") != "job") {
            return;  // a word for a backup that has ended
        }
        const std::string what = text_of(job, "job");
        const std::vector<std::string> words = words_of(job);
        if (what == "backup") {
            backup(job, words);
        } else if (what == "inspect") {
            work_.inspect(words, [this](const Json& found) { link_.say(found); });
            link_.say({{"is", "done"}});
        } else if (what == "mark") {
            const auto cut = CutId::parse(text_of(job, "cut"));
            if (!cut) {
                throw Error::failed("the coordinator names no cluster backup");
            }
            work_.mark(words, *cut, text_of(job, "mark") == "forgotten" ? CutMark::kForgotten : CutMark::kGivenUp, text_of(job, "why"));
            link_.say({{"is", "done"}});
        } else if (what == "place") {
            link_.say(work_.place(words, text_of(job, "cut"), text_of(job, "backup"), text_of(job, "what")));
            link_.say({{"is", "done"}});
        } else if (what == "run") {
            const int status = work_.run(
                words,
                [this](std::string_view text) {
                    link_.say({{"is", "output"}, {"text", std::string(text)}});
                },
                [this] { return link_.ended(); });
            link_.say({{"is", "done"}, {"status", status}});
        } else {
            throw Error::failed("the coordinator asks for \"" + what + "\", which isn't known here");
        }
    }

    void set_gates(AgentGates* gates) {
        const std::scoped_lock lock(mutex_);
        gates_ = gates;
        if (gates == nullptr) {
            return;
        }
        // What came before there was anybody to hear it.
        for (; !jobs_.empty() && text_of(jobs_.front(), "do") != "job"; jobs_.pop_front()) {
            gates->heard(jobs_.front());
        }
        if (lost_) {
            gates->lost(why_lost_);
        }
    }

    void end_of(AgentGates& gates) {
        set_gates(nullptr);
        if (gates.was_ended()) {
            interrupt::clear();  // that was meant for this backup
        }
    }

    void backup(const Json& job, const std::vector<std::string>& words) {
        std::optional<SessionId> resume;
        if (const auto wanted = job.find("resume"); wanted != job.end()) {
            resume = SessionId::parse(text_of(job, "resume"));
            if (!resume) {
                throw Error::failed("the coordinator names no backup to go on with");
            }
        }
        AgentGates gates(link_, text_of(job, "node"));
        Progress progress;
        Report report;
        set_gates(&gates);
        std::optional<BackupResult> result;
        try {
            const Telling telling(link_, progress);
            result = work_.backup(words, gates, gates.cap(), resume, progress, report);
        } catch (...) {
            end_of(gates);
            tell(report);
            throw;
        }
        end_of(gates);
        tell(report);
        const Manifest& manifest = result->manifest;
        link_.say({{"is", "done"},
                   {"backup", manifest.id.hex()},
                   {"damaged", manifest.damaged},
                   {"consistency", to_string(manifest.consistency)},
                   {"bytes", manifest.totals.logical_bytes},
                   {"read", manifest.totals.read_bytes},
                   {"stored", manifest.totals.stored_bytes},
                   {"seconds", std::chrono::duration<double>(result->drain_time).count()}});
    }

    void tell(const Report& report) {
        for (const std::string& warning : report.warnings()) {
            link_.say({{"is", "warning"}, {"text", warning}});
        }
    }

    const AgentWork& work_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Json> jobs_;
    AgentGates* gates_ = nullptr;
    bool lost_ = false;
    std::string why_lost_;
    ClusterLink link_;  // the last: its threads use the others
};

}  // namespace

void run_agent(FileDescriptor in, FileDescriptor out, const AgentWork& work) {
    Agent(std::move(in), std::move(out), work).run();
}

}  // namespace nodesnap::cluster
