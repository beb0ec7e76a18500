// What the parts of the doctor add to. Internal to it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "snapshot/doctor.h"

namespace nodesnap {

class Findings {
public:
    explicit Findings(std::vector<Finding>& all) : all_(all) {}
    void fact(std::string topic, std::string text) { all_.push_back({Finding::Severity::kFact, std::move(topic), std::move(text), ""}); }
    void warn(std::string topic, std::string text, std::string remedy) {
        all_.push_back({Finding::Severity::kWarning, std::move(topic), std::move(text), std::move(remedy)});
    }
    void obstacle(std::string topic, std::string text, std::string remedy) {
        all_.push_back({Finding::Severity::kObstacle, std::move(topic), std::move(text), std::move(remedy)});
    }

private:
    std::vector<Finding>& all_;
};

}  // namespace nodesnap
