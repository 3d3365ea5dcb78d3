// Goal: the namespaces of one tenant share a domain of memory, those of two tenants never do; no
// tenant takes the places of all.
// Method: a table without an index, opened by several tenants in turn.
#include "server/node/namespace_table.h"

#include <gtest/gtest.h>

#include <string>

namespace terrace {
namespace {

TEST(NamespaceTableTest, a_tenant_is_a_sharing_domain) {
  NamespaceTable table(nullptr, "", 16);
  Fingerprint raw;
  raw.model_id = "model";
  const auto domain_of = [&](const std::string& tenant, const std::string& name) {
    bool created = false;
    const auto ns = table.open(tenant, name, raw, &created);
    EXPECT_TRUE(ns.ok()) << ns.status().to_string();
    return ns.ok() ? (*ns)->domain : kNobody;
  };
  const DomainId chat = domain_of("chat", "a");
  const DomainId batch = domain_of("batch", "a");
  EXPECT_NE(chat, kNobody);
  EXPECT_NE(batch, kNobody);
  EXPECT_NE(chat, batch);
  EXPECT_EQ(domain_of("chat", "b"), chat);
  EXPECT_EQ(domain_of("batch", "a"), batch) << "opened again";
  EXPECT_LT(static_cast<uint32_t>(domain_of("third", "a")), kOwnDomainBit);
  ASSERT_EQ(table.all().size(), 4u);
  for (const auto& ns : table.all()) {
    EXPECT_EQ(ns->domain == chat, ns->tenant == "chat") << ns->tenant << "/" << ns->name;
  }
}

TEST(NamespaceTableTest, a_tenant_that_makes_names_without_end_is_refused_and_nobody_else) {
  NamespaceTable table(nullptr, "", 3);
  Fingerprint raw;
  raw.model_id = "model";
  bool created = false;
  for (int run = 0; run < 3; ++run) {
    ASSERT_TRUE(table.open("batch", "run" + std::to_string(run), raw, &created).ok());
  }
  const Status refused = table.open("batch", "run3", raw, &created).status();
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  for (const char* const part : {"\"batch\"", "namespaces-per-tenant-max = 3", "again"}) {
    EXPECT_NE(refused.message().find(part), std::string::npos) << refused.to_string();
  }
  EXPECT_TRUE(table.open("batch", "run1", raw, &created).ok()) << "what it has stays open to it";
  EXPECT_TRUE(table.open("chat", "a", raw, &created).ok());
  EXPECT_EQ(table.all().size(), 4u);
}
}  // namespace
}  // namespace terrace
