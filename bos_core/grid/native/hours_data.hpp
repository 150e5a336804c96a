// What the hours of a series are made of, and what becomes of them. Axes, units and meaning are those of
// `hours_lanes.py`; arrays are (hour, bus) by bus number, admittances (network, entry) by elimination position.
#pragma once
#include <cstdint>

#include "pattern.hpp"

namespace bos {

struct Networks {
    const double *g, *b, *dc, *dc_power;
    const int64_t *of_hour;
};

struct Series {
    int64_t hours;
    const double *p, *q, *p_current, *q_current, *p_impedance, *q_impedance, *vm_set, *q_min, *q_max;
    const bool *controls;
    const double *weight; // null: the slack bears the balance alone
};

struct HoursFound {
    double *vr, *vi, *p, *q, *balance, *residual;
    int8_t *control;
    int64_t *iterations;
    bool *solved;
};

struct HoursSettings {
    double tolerance;
    int iterations_max;
    bool enforce;
    double limit_tolerance;
    int returns_max, rounds_max, lost;
    double diverged;
};

} // namespace bos
