// Goal: the namespaces of one tenant share a domain of memory, those of two tenants never do.
// Method: a table without an index, opened by several tenants in turn.
#include "server/node/namespace_table.h"

#include <gtest/gtest.h>

#include <string>

namespace terrace {
namespace {

TEST(NamespaceTableTest, a_tenant_is_a_sharing_domain) {
  NamespaceTable table(nullptr, "");
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
}  // namespace
}  // namespace terrace
