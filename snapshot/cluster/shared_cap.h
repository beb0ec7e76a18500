// How a cap on bytes per second is shared by the drains of several nodes: who uses less than an equal share keeps what it uses and a fifth,
// so that it can come to use more, and the others share what is left evenly. Pure.
#pragma once

#include <cstdint>
#include <vector>

namespace nodesnap::cluster {

// `used`: bytes per second of each that drains, lately. The shares come to no more than `cap`, and each is at least 4096.
std::vector<std::uint64_t> share_cap(std::uint64_t cap, const std::vector<std::uint64_t>& used);

}  // namespace nodesnap::cluster
