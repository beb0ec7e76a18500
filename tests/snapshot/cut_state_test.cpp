// What is said of a cluster backup, from what its nodes' repositories tell.
#include "snapshot/cluster/cut_state.h"

#include <gtest/gtest.h>

#include "platform/error.h"

namespace nodesnap::cluster {
namespace {

constexpr std::int64_t kMilliseconds = 1'000'000;

class CutStateTest : public testing::Test {
protected:
    void SetUp() override {
        proposal_.id = CutId::random();
        proposal_.cluster = "orders";
        proposal_.created_ns = 1000;
        proposal_.cluster_file = "[cluster]\n";
        for (const char* name : {"a", "b", "c"}) {
            proposal_.nodes.push_back({name, "/backup", Uuid::random(), SessionId::random(), ""});
        }
        tell_all();
    }

    // Each node has the proposal, and a good part of it.
    void tell_all() {
        nodes_.clear();
        for (const CutProposal::Node& proposed : proposal_.nodes) {
            NodeFacts node;
            node.name = proposed.name;
            node.cuts[proposal_.id].proposal = proposal_;
            if (proposed.id) {
                Part part;
                part.id = *proposed.id;
                part.place = {proposal_.id, "orders", proposed.name,    proposal_.checksum(), CutPart::Hold::kProved,
                              true,         0,        2 * kMilliseconds};
                part.place.taken_ns = static_cast<std::int64_t>(100 + nodes_.size() * 5) * kMilliseconds;
                part.snapshot_duration_ns = kMilliseconds;
                node.parts.emplace(proposal_.id, part);
            }
            nodes_.push_back(std::move(node));
        }
    }
    Part& part(std::size_t index) { return nodes_.at(index).parts.at(proposal_.id); }
    CutState state() const {
        const auto states = cut_states(nodes_);
        EXPECT_EQ(states.size(), 1U);
        return states.at(0);
    }

    CutProposal proposal_;
    std::vector<NodeFacts> nodes_;
};

TEST_F(CutStateTest, CompleteWhenAllPartsAreThere) {
    const CutState cut = state();
    EXPECT_EQ(cut.kind, CutState::Kind::kComplete);
    EXPECT_TRUE(cut.one_moment);
    EXPECT_EQ(cut.skew_ns, 11 * kMilliseconds);
    EXPECT_EQ(cut.skew_doubt_ns, 4 * kMilliseconds);
    EXPECT_EQ(moment_of(cut), "one moment");
}

TEST_F(CutStateTest, OneMomentOnlyIfEachPartProvesIt) {
    part(1).place.released = false;
    EXPECT_FALSE(state().one_moment);
    EXPECT_TRUE(state().held);
    tell_all();
    part(2).place.hold = CutPart::Hold::kUnproved;
    EXPECT_FALSE(state().one_moment);
    tell_all();
    part(0).place.hold = CutPart::Hold::kNone;
    EXPECT_FALSE(state().held);
}

TEST_F(CutStateTest, APartThatNamesAnotherProposalIsNone) {
    part(1).place.proposal = std::string(32, '0');
    EXPECT_EQ(state().kind, CutState::Kind::kGivenUp);
    tell_all();
    part(1).place.node = "c";
    EXPECT_EQ(state().kind, CutState::Kind::kGivenUp);
    tell_all();
    part(1).id = SessionId::random();
    EXPECT_EQ(state().kind, CutState::Kind::kGivenUp);
}

TEST_F(CutStateTest, AForgedProposalMakesNoPartItsOwn) {
    CutProposal forged = proposal_;
    forged.nodes.pop_back();
    nodes_[0].cuts[proposal_.id].proposal = forged;
    const auto states = cut_states(nodes_);
    ASSERT_EQ(states.size(), 2U);
    for (const CutState& cut : states) {
        EXPECT_EQ(cut.kind, cut.proposal == proposal_ ? CutState::Kind::kComplete : CutState::Kind::kGivenUp);
    }
}

TEST_F(CutStateTest, UnfinishedWhileADraftCanBeGoneOnWith) {
    nodes_[1].parts.clear();
    nodes_[1].drafts.emplace(proposal_.id, *proposal_.nodes[1].id);
    const CutState cut = state();
    EXPECT_EQ(cut.kind, CutState::Kind::kUnfinished);
    EXPECT_EQ(cut.nodes[1].draft, proposal_.nodes[1].id);
    // Not with that of another backup.
    nodes_[1].drafts.at(proposal_.id) = SessionId::random();
    EXPECT_EQ(state().kind, CutState::Kind::kGivenUp);
}

TEST_F(CutStateTest, UnknownWhileANodeCannotBeAsked) {
    nodes_[2].unreachable = "no route to host";
    nodes_[2].parts.clear();
    EXPECT_EQ(state().kind, CutState::Kind::kUnknown);
    nodes_.pop_back();
    EXPECT_EQ(state().kind, CutState::Kind::kUnknown);
}

TEST_F(CutStateTest, DegradedWithoutNodesThatWereMissingFromTheBeginning) {
    proposal_.nodes[0].id.reset();
    proposal_.nodes[0].missing = "it doesn't run";
    proposal_.degraded = true;
    tell_all();
    EXPECT_EQ(state().kind, CutState::Kind::kDegraded);
    EXPECT_FALSE(state().one_moment);
    nodes_[1].parts.clear();
    EXPECT_EQ(state().kind, CutState::Kind::kDegraded);
}

TEST_F(CutStateTest, AMarkEndsIt) {
    nodes_[1].cuts.at(proposal_.id).given_up = "node b: it failed";
    EXPECT_EQ(state().kind, CutState::Kind::kComplete);  // it can't undo what is there
    nodes_[2].parts.clear();
    nodes_[2].drafts.emplace(proposal_.id, *proposal_.nodes[2].id);
    EXPECT_EQ(state().kind, CutState::Kind::kGivenUp);
    EXPECT_EQ(state().why, "node b: it failed");
    tell_all();
    nodes_[0].cuts.at(proposal_.id).forgotten = true;
    EXPECT_TRUE(state().forgotten);
}

TEST_F(CutStateTest, AnIncompletePartMakesItSo) {
    part(1).damaged = true;
    EXPECT_EQ(state().kind, CutState::Kind::kDegraded);
}

TEST_F(CutStateTest, AProposalComesBackFromItsText) {
    EXPECT_EQ(CutProposal::parse(proposal_.text(), "it"), proposal_);
    EXPECT_THROW(CutProposal::parse("{}", "it"), Error);
    EXPECT_THROW(CutProposal::parse("nothing", "it"), Error);
    std::string text = proposal_.text();
    text.replace(text.find("\"backup\":\"") + 10, 3, "xyz");
    EXPECT_THROW(CutProposal::parse(text, "it"), Error);
}

}  // namespace
}  // namespace nodesnap::cluster
