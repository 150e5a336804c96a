// What one hour's outages are made of, and what becomes of them. Axes, units and meaning are those of the Python
// side: `Pattern` and `Factors` of elimination.py, `State` and `Control` of newton.py, `Outages` of n1_lanes.py,
// `Monitor` and `Extremes` of n1_cases.py. Buses are numbered by elimination position.
#pragma once
#include <chrono>
#include <cstdint>
#include <vector>

#include "pattern.hpp"

namespace bos {

enum Kind : int8_t { PQ = 0, PV = 1, FIXED = 2 };
enum Outcome : int64_t { CONVERGED = 0, ISLANDED = 1, DIVERGED = 2 };

struct Factors { // blocks of four, row-major
    const double *lower, *upper, *diagonal_inverse;
};

struct BaseCase {
    Pattern pattern;
    Factors factors;
    const double *g, *b;
    const int8_t *kind;
    const double *p, *q, *p_current, *q_current, *weight, *vr, *vi;
    const bool *controls;
    const double *vm_set, *q_fixed, *q_min, *q_max;
    const int8_t *control;
};

struct Outages {
    int64_t n;
    const int64_t *branch, *dead_first, *dead_last, *dead;
    const bool *alone;
    const int64_t *expected; // iterations; only for the order of the work
};

struct Monitor {
    int64_t n_branch;
    const int64_t *order;
    const int32_t *from, *to;
    const double *admittance, *per_rating_from, *per_rating_to, *loading_limit, *loading_listed;
    const double *vm_low, *vm_low_listed, *vm_high, *vm_high_listed;
};

struct Settings {
    double tolerance;
    int iterations_max;
    bool enforce, distributed;
    double criterion_tolerance, limit_tolerance;
    int returns_max;
};

struct Extremes {
    int64_t *outcome, *iterations;
    double *residual;
    double *loading_max;
    int64_t *loading_branch, *overloaded;
    double *vm_min;
    int64_t *vm_min_bus;
    double *vm_max;
    int64_t *vm_max_bus, *voltage_violations, *q_switches;
};

struct Listed {
    std::vector<int64_t> contingency, element;
    std::vector<double> value;

    void add(int64_t c, int64_t e, double v) {
        contingency.push_back(c);
        element.push_back(e);
        value.push_back(v);
    }
};

// What the time goes to.
enum Part { PREPARATION, MISMATCH, SUBSTITUTION, COMPENSATION, VERDICT, RECORD, PARTS };
constexpr const char *PART_NAMES[PARTS] = {"preparation",  "mismatch", "substitution and rotation",
                                           "compensation", "verdict",  "record"};

class Stopwatch {
  public:
    double seconds[PARTS] = {};

    // Count the time since the last call as this part's.
    void lap(Part part) {
        const auto now = std::chrono::steady_clock::now();
        seconds[part] += std::chrono::duration<double>(now - last).count();
        last = now;
    }

  private:
    std::chrono::steady_clock::time_point last = std::chrono::steady_clock::now();
};

struct Found {
    Listed overloads, voltages;
    std::vector<int64_t> left; // outages that did not settle
    Stopwatch watch;
};

using Solve = void (*)(const BaseCase &, const Outages &, const Monitor &, const Settings &, const Extremes &,
                       Found &);

} // namespace bos
