// The way in from Python, and one copy of the solver for every instruction set, chosen at run time.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>

#include "n1_data.hpp"
#include "python.hpp"

#define BOS_LANES 32

namespace bos {
#ifdef BOS_DISPATCH
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")
namespace avx512 {
#define BOS_REGISTER 64
#include "vectors.inc"
#include "n1_compensation.inc"
#include "n1_lanes.inc"
#undef BOS_REGISTER
} // namespace avx512
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#define BOS_REGISTER 32
#include "vectors.inc"
#include "n1_compensation.inc"
#include "n1_lanes.inc"
#undef BOS_REGISTER
} // namespace avx2
#pragma GCC pop_options
#endif
namespace generic {
#define BOS_REGISTER 16
#include "vectors.inc"
#include "n1_compensation.inc"
#include "n1_lanes.inc"
#undef BOS_REGISTER
} // namespace generic
} // namespace bos

namespace py = pybind11;

namespace {

using bos::data;

bos::Solve chosen(const std::string &instruction_set) {
#ifdef BOS_DISPATCH
    if (instruction_set == "avx512") return bos::avx512::solve;
    if (instruction_set == "avx2") return bos::avx2::solve;
#endif
    if (instruction_set == "generic") return bos::generic::solve;
    throw std::invalid_argument("unknown instruction set " + instruction_set);
}

py::tuple listed(const bos::Listed &found) {
    const auto size = static_cast<py::ssize_t>(found.value.size());
    return py::make_tuple(py::array_t<int64_t>(size, found.contingency.data()),
                          py::array_t<int64_t>(size, found.element.data()),
                          py::array_t<double>(size, found.value.data()));
}

bos::BaseCase read_base(const py::object &pattern, const py::object &factors, const py::object &state,
                        const py::object &control, const py::array_t<double, py::array::c_style> &g,
                        const py::array_t<double, py::array::c_style> &b) {
    bos::BaseCase base;
    base.pattern = bos::read_pattern(pattern);
    base.factors.lower = data<double>(factors, "lower"), base.factors.upper = data<double>(factors, "upper");
    base.factors.diagonal_inverse = data<double>(factors, "diagonal_inverse");
    base.g = g.data(), base.b = b.data();
    base.kind = data<int8_t>(state, "kind");
    base.p = data<double>(state, "p"), base.q = data<double>(state, "q");
    base.p_current = data<double>(state, "p_current"), base.q_current = data<double>(state, "q_current");
    base.weight = data<double>(state, "weight");
    base.vr = data<double>(state, "vr"), base.vi = data<double>(state, "vi");
    base.controls = data<bool>(control, "active");
    base.vm_set = data<double>(control, "vm_set"), base.q_fixed = data<double>(control, "q_fixed");
    base.q_min = data<double>(control, "q_min"), base.q_max = data<double>(control, "q_max");
    base.control = data<int8_t>(control, "state");
    return base;
}

bos::Outages read_outages(const py::object &outages) {
    return {int64_t(py::len(outages.attr("branch"))), data<int64_t>(outages, "branch"),
            data<int64_t>(outages, "dead_first"),     data<int64_t>(outages, "dead_last"),
            data<int64_t>(outages, "dead"),           data<bool>(outages, "alone"),
            data<int64_t>(outages, "expected")};
}

bos::Monitor read_monitor(const py::object &monitor) {
    return {int64_t(py::len(monitor.attr("from_position"))), data<int64_t>(monitor, "order"),
            data<int32_t>(monitor, "from_position"),         data<int32_t>(monitor, "to_position"),
            data<double>(monitor, "admittance"),             data<double>(monitor, "per_rating_from"),
            data<double>(monitor, "per_rating_to"),          data<double>(monitor, "loading_limit"),
            data<double>(monitor, "loading_listed"),         data<double>(monitor, "vm_low"),
            data<double>(monitor, "vm_low_listed"),          data<double>(monitor, "vm_high"),
            data<double>(monitor, "vm_high_listed")};
}

bos::Extremes read_extremes(const py::object &extremes) {
    return {data<int64_t>(extremes, "outcome"),            data<int64_t>(extremes, "iterations"),
            data<double>(extremes, "residual_pu"),         data<double>(extremes, "loading_max"),
            data<int64_t>(extremes, "loading_branch"),     data<int64_t>(extremes, "overloaded"),
            data<double>(extremes, "vm_min_pu"),           data<int64_t>(extremes, "vm_min_bus"),
            data<double>(extremes, "vm_max_pu"),           data<int64_t>(extremes, "vm_max_bus"),
            data<int64_t>(extremes, "voltage_violations"), data<int64_t>(extremes, "q_switches")};
}

py::tuple solve(const py::object &pattern, const py::object &factors, const py::object &state,
                const py::object &control, const py::array_t<double, py::array::c_style> &g,
                const py::array_t<double, py::array::c_style> &b, const py::object &outages,
                const py::object &monitor, const py::object &extremes, double tolerance, int iterations_max,
                bool enforce, bool distributed, double criterion_tolerance, double limit_tolerance, int returns_max,
                const std::string &instruction_set) {
    const bos::BaseCase base = read_base(pattern, factors, state, control, g, b);
    const bos::Outages cases = read_outages(outages);
    const bos::Monitor watched = read_monitor(monitor);
    const bos::Extremes out = read_extremes(extremes);
    const bos::Settings settings{tolerance,   iterations_max,      enforce,
                                 distributed, criterion_tolerance, limit_tolerance, returns_max};
    const bos::Solve run = chosen(instruction_set);
    bos::Found found;
    {
        py::gil_scoped_release others_may_run;
        run(base, cases, watched, settings, out, found);
    }
    py::dict seconds;
    for (int part = 0; part < bos::PARTS; ++part) seconds[bos::PART_NAMES[part]] = found.watch.seconds[part];
    return py::make_tuple(listed(found.overloads), listed(found.voltages),
                          py::array_t<int64_t>(static_cast<py::ssize_t>(found.left.size()), found.left.data()),
                          seconds);
}

} // namespace

PYBIND11_MODULE(n1_native, module) {
    module.doc() = "Every outage of an hour by AC power flow, side by side in vector registers.";
    module.def("instruction_sets", &bos::instruction_sets, "Return the instruction sets of this machine, the widest first.");
    module.def("solve", &solve, py::arg("pattern"), py::arg("factors"), py::arg("state"), py::arg("control"),
               py::arg("g"), py::arg("b"), py::arg("outages"), py::arg("monitor"), py::arg("extremes"), py::kw_only(),
               py::arg("tolerance"), py::arg("iterations_max"), py::arg("enforce"), py::arg("distributed"),
               py::arg("criterion_tolerance"), py::arg("limit_tolerance"), py::arg("returns_max"),
               py::arg("instruction_set"),
               "Solve the outages into `extremes`; return overloads, voltage violations, outages left unsolved, and the "
               "seconds of each part of the work.");
}
