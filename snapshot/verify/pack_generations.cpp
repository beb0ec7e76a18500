#include "snapshot/verify/pack_generations.h"

#include <algorithm>

#include "platform/error.h"
#include "snapshot/repository/pack_salvage.h"

namespace nodesnap {

PackGenerations::PackGenerations(const Repository& repository, layout::PackKind kind, const PackId& id, std::vector<std::uint32_t> listed)
    : repository_(repository), kind_(kind), id_(id) {
    std::sort(listed.begin(), listed.end());
    // More than any repair leaves are not all opened.
    const std::size_t unopened = listed.size() > kOpened ? listed.size() - kOpened : 0;
    for (std::size_t i = 0; i < unopened; ++i) {
        generations_.push_back({listed[i], nullptr, {}});
    }
    for (std::size_t i = unopened; i < listed.size(); ++i) {
        try_open(listed[i]);
    }
    // One that can't be opened may as well not be there at all: then the device fails for every number.
    for (std::uint32_t next = listed.empty() ? 0 : listed.back() + 1; try_open(next); ++next) {
        if (generations_.back().pack == nullptr) {
            generations_.pop_back();
            break;
        }
    }
    for (const Generation& generation : generations_) {
        if (generation.pack != nullptr) {
            best_ = &generation;
        }
    }
}

// False if there is no such object.
bool PackGenerations::try_open(std::uint32_t number) {
    Generation generation;
    generation.number = number;
    const DamageSink sink = [&](const Damage& damage) { generation.damages.push_back(damage); };
    try {
        generation.pack = PackReader::open_generation(repository_.target(), repository_.info().uuid, {kind_, id_, number}, sink);
        if (generation.pack == nullptr) {
            return false;
        }
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged && !is_media_error(error.error_number())) {
            throw;
        }
        if (generation.damages.empty()) {
            generation.damages.push_back({layout::pack({kind_, id_, number}), error.message(), false});
        }
    }
    generations_.push_back(std::move(generation));
    return true;
}

std::vector<std::uint32_t> PackGenerations::numbers() const {
    std::vector<std::uint32_t> numbers;
    for (const Generation& generation : generations_) {
        numbers.push_back(generation.number);
    }
    return numbers;
}

std::vector<Damage> PackGenerations::damages() const {
    std::vector<Damage> damages;
    for (const Generation& generation : generations_) {
        damages.insert(damages.end(), generation.damages.begin(), generation.damages.end());
    }
    return damages;
}

PackGenerations::Copy PackGenerations::read(const Generation& generation, std::uint32_t number, std::size_t place) const {
    const Segment segment = generation.pack->index().segment(number);
    Copy copy{&generation, place, Bytes(segment.stored_length), false};
    copy.unreadable = salvaging_read(generation.pack->reader(), copy.stored, place == 0 ? segment.offset : segment.second_offset) != 0;
    return copy;
}

// Whether the generation stores the segment byte for byte as best() does.
bool PackGenerations::comparable(const Generation& generation, std::uint32_t number) const {
    const PackIndex& index = best()->index();
    const PackIndex& other = generation.pack->index();
    if (number >= other.size()) {
        return false;
    }
    const Segment a = index.segment(number);
    const Segment b = other.segment(number);
    const auto blocks = index.blocks(number);
    return a.plain_length == b.plain_length && a.stored_length == b.stored_length && a.codec == b.codec &&
           std::equal(blocks.begin(), blocks.end(), other.blocks(number).begin()) &&
           (a.codec == Codec::kNone || index.stored_checksum(number) == other.stored_checksum(number));
}

// An encoded segment can only be judged as a whole.
std::span<const std::byte> PackGenerations::block_of(std::uint32_t number, std::uint32_t block, std::span<const std::byte> stored) const {
    if (best()->index().segment(number).codec != Codec::kNone) {
        return stored;
    }
    const std::size_t at = std::size_t{block} * kChecksumBlock;
    return stored.subspan(at, std::min<std::size_t>(kChecksumBlock, stored.size() - at));
}

bool PackGenerations::good(std::uint32_t number, std::uint32_t block, std::span<const std::byte> stored) const {
    const PackIndex& index = best()->index();
    const Checksum& expected = index.segment(number).codec != Codec::kNone ? index.stored_checksum(number) : index.blocks(number)[block];
    return repository_.hasher()(block_of(number, block, stored)) == expected;
}

PackGenerations::Found PackGenerations::find(std::uint32_t number) const {
    const Segment segment = best()->index().segment(number);
    const std::size_t places = kind_ == layout::PackKind::kNodes ? 2 : 1;
    Found found;
    found.blocks = segment.codec != Codec::kNone ? 1 : block_count(segment.plain_length);
    std::vector<Copy> copies;
    for (std::size_t place = 0; place < places; ++place) {
        copies.push_back(read(*best_, number, place));
        found.copies.push_back(copies.back().stored);
    }
    std::vector<std::span<const std::byte>> good_blocks(found.blocks);
    const auto look_at = [&](const Copy& copy) {
        for (std::uint32_t block = 0; block < found.blocks; ++block) {
            if (good_blocks[block].empty() && good(number, block, copy.stored)) {
                good_blocks[block] = block_of(number, block, copy.stored);
            }
        }
    };
    const auto lacking = [&] { return std::any_of(good_blocks.begin(), good_blocks.end(), [](const auto& b) { return b.empty(); }); };
    std::for_each(copies.begin(), copies.end(), look_at);
    for (auto other = generations_.rbegin(); other != generations_.rend() && lacking(); ++other) {
        for (std::size_t place = 0; &*other != best_ && other->pack != nullptr && comparable(*other, number) && place < places; ++place) {
            copies.push_back(read(*other, number, place));  // moving a copy leaves its bytes where they are
            look_at(copies.back());
        }
    }
    for (std::uint32_t block = 0; block < found.blocks; ++block) {
        if (good_blocks[block].empty()) {
            found.blocks_lost.push_back(block);
            continue;
        }
        for (Bytes& copy : found.copies) {
            const auto present = block_of(number, block, copy);
            if (!std::equal(present.begin(), present.end(), good_blocks[block].begin())) {
                found.heals = true;
                std::copy(good_blocks[block].begin(), good_blocks[block].end(), copy.begin() + (present.data() - copy.data()));
            }
        }
    }
    if (!found.blocks_lost.empty()) {
        keep_who_may_hold_more(found, number, copies);
    }
    return found;
}

// A block that fails its checksum may still be right but for a bit, and one that can't be read may be read again some day.
void PackGenerations::keep_who_may_hold_more(Found& found, std::uint32_t number, const std::vector<Copy>& read) const {
    for (const Generation& generation : generations_) {
        bool more = generation.pack == nullptr || !comparable(generation, number);
        for (const Copy& copy : read) {
            if (copy.generation != &generation) {
                continue;
            }
            more = more || copy.unreadable;
            for (const std::uint32_t block : found.blocks_lost) {
                const auto theirs = block_of(number, block, copy.stored);
                const auto ours = block_of(number, block, found.copies[copy.place]);
                more = more || !std::equal(theirs.begin(), theirs.end(), ours.begin());
            }
        }
        if (more) {
            found.kept_by.push_back(generation.number);
        }
    }
}

}  // namespace nodesnap
