// server/node/metric_sink.h - where figures go that somebody will scrape. Confined to the scraper's
// thread; the figures may be written meanwhile.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "base/counter.h"

namespace terrace {

class MetricSink {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;

  /// Metrics of one name are one family, and have its help.
  void counter(const std::string& name, const std::string& help, const Counter& value,
               const Labels& labels = {}) {
    add_counter(name, help, static_cast<double>(value.get()), labels);
  }
  void gauge(const std::string& name, const std::string& help, const Counter& value,
             const Labels& labels = {}) {
    add_gauge(name, help, static_cast<double>(value.get()), labels);
  }
  virtual void add_counter(const std::string& name, const std::string& help, double value,
                           const Labels& labels) = 0;
  virtual void add_gauge(const std::string& name, const std::string& help, double value,
                         const Labels& labels) = 0;
  /// `unit_s`: what one of its microseconds stands for, in seconds.
  virtual void histogram(const std::string& name, const std::string& help,
                         const LatencyHistogram& from, const Labels& labels,
                         double unit_s = 1e-6) = 0;

 protected:
  ~MetricSink() = default;
};
}  // namespace terrace
