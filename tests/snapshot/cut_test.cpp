// Cluster backups as one repository stores them.
#include "snapshot/repository/cut.h"

#include "tests/snapshot/forget_fixture.h"

namespace nodesnap::test {
namespace {

class CutTest : public ForgetTest {
protected:
    CutProposal proposal() const {
        CutProposal proposal;
        proposal.id = cut_;
        proposal.cluster = "orders";
        proposal.created_ns = 5;
        proposal.nodes = {{"a", std::string("/backup/\xff"), Uuid::random(), SessionId::random(), ""},
                          {"b", "/backup", {}, {}, "it is away"}};
        proposal.cluster_file = "[cluster]\nname = \"\u00e4\"\n";
        return proposal;
    }
    void make_part(int index) {
        add_revision(index, 0, [this](Manifest& manifest) {
            manifest.cut = CutPart{};
            manifest.cut->cut = cut_;
        });
    }
    void mark(CutMark what) {
        under_lease([&](Repository& repository, Lease& lease) { mark_cut(repository, lease, cut_, what, "why not"); });
    }

    const CutId cut_ = CutId::random();
};

TEST_F(CutTest, AProposalIsStoredOnce) {
    const CutProposal stored = proposal();
    under_lease([&](Repository& repository, Lease& lease) {
        EXPECT_TRUE(store_proposal(repository, lease, stored));
        EXPECT_TRUE(store_proposal(repository, lease, stored));
        EXPECT_FALSE(store_proposal(repository, lease, proposal()));
        const auto cuts = stored_cuts(repository);
        ASSERT_EQ(cuts.size(), 1U);
        EXPECT_EQ(cuts[0].proposal, stored);
        EXPECT_EQ(cuts[0].proposal.checksum(), stored.checksum());
        EXPECT_FALSE(cuts[0].given_up || cuts[0].forgotten);
    });
    mark(CutMark::kGivenUp);
    mark(CutMark::kForgotten);
    under_lease([&](Repository& repository, Lease&) {
        EXPECT_EQ(stored_cuts(repository).at(0).given_up, "why not");
        EXPECT_TRUE(stored_cuts(repository).at(0).forgotten);
    });
}

TEST_F(CutTest, ADamagedProposalIsToldAndPassedOver) {
    under_lease([&](Repository& repository, Lease& lease) { store_proposal(repository, lease, proposal()); });
    repository_.flip(layout::cut(cut_), 300);
    under_lease([&](Repository& repository, Lease&) { EXPECT_TRUE(stored_cuts(repository).empty()); });
}

TEST_F(CutTest, PartsAreKeptUntilTheCutIsForgotten) {
    backups(3);
    make_part(0);
    forget(keep_last(1));
    EXPECT_EQ(left(), (std::vector<int>{0, 2}));
    EXPECT_EQ(status_of(named({id(0)})), ExitStatus::kRefused);
    EXPECT_NE(message_.find(cut_.text()), std::string::npos) << message_;
    mark(CutMark::kGivenUp);
    forget(keep_last(1));
    EXPECT_EQ(left(), (std::vector<int>{0, 2}));
    mark(CutMark::kForgotten);
    forget(keep_last(1));
    EXPECT_EQ(left(), std::vector<int>{2});
}

TEST_F(CutTest, APartMayBeRemovedAlone) {
    backups(2);
    make_part(0);
    ForgetOptions options = named({id(0)});
    options.cluster_members = true;
    forget(options);
    EXPECT_EQ(left(), std::vector<int>{1});
}

}  // namespace
}  // namespace nodesnap::test
