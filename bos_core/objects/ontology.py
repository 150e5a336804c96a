"""The power-system ontology: the 13 element data types and two relationships of the paper's Table 5.

Each data type owns one or more tables. A table is a `pyarrow.Table` with the schema given here; units and
meaning of every column travel in the schema. `id` columns are UUID strings, unique across the system.
Hourly quantities are not rows of these tables but series (see `SERIES`): wide, one column an element.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from bos_core.objects.errors import Finding
from bos_core.objects.text import check_lengths, check_texts


class DataType(StrEnum):
    """Rows of Table 5."""

    E_SYSTEM = "E_System"
    E_SC = "E_SC"
    E_WAS = "E_WAS"
    E_SS = "E_SS"
    E_MARKET = "E_Market"
    E_SV = "E_SV"
    E_ENTITY = "E_Entity"
    E_SM = "E_SM"
    E_DM = "E_DM"
    E_DS = "E_DS"
    E_CE = "E_CE"
    E_ES = "E_ES"
    E_TV = "E_TV"
    R_ORGANISATION = "R_Organisation"
    R_TOPOLOGY = "R_Topology"


TIME_VARYING = frozenset({DataType.E_SS, DataType.E_MARKET, DataType.E_SV, DataType.E_ES, DataType.E_TV})


@dataclass(frozen=True)
class Column:
    """One column: Arrow type, unit (``"1"`` = dimensionless, ``""`` = not a quantity) and meaning.

    `added` says that a program has added it to the ontology, see `bos_core.objects.extension`; `default` is what
    holds where such a column is null, `minimum` and `maximum` are its inclusive bounds, None = no bound.
    """

    name: str
    type: pa.DataType
    unit: str
    doc: str
    nullable: bool = False
    references: str = ""
    added: bool = False
    default: float | int | bool | str | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class TableSchema:
    """A table of the ontology; `added` says that a program has added it."""

    name: str
    data_type: DataType
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ("id",)
    added: bool = False

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema, with units and meaning as field metadata."""
        fields = [
            pa.field(c.name, c.type, nullable=c.nullable, metadata={"unit": c.unit, "doc": c.doc})
            for c in self.columns
        ]
        return pa.schema(
            fields,
            metadata={"table": self.name, "data_type": self.data_type.value, "key": json.dumps(self.key)},
        )

    def empty(self) -> pa.Table:
        """Return the table without rows."""
        return self.arrow.empty_table()

    def build(self, columns: Mapping[str, Iterable[object]]) -> pa.Table:
        """Build a table from columns in any order; absent nullable columns become null."""
        arrays, length = [], len(list(next(iter(columns.values())))) if columns else 0
        for column in self.columns:
            if column.name in columns:
                values = columns[column.name]
                arrays.append(pa.array(values, type=column.type, from_pandas=True))
            elif column.nullable:
                arrays.append(pa.nulls(length, column.type))
            else:
                raise KeyError(f"table {self.name}: column {column.name} is required")
        unknown = set(columns) - {c.name for c in self.columns}
        if unknown:
            raise KeyError(f"table {self.name}: unknown columns {sorted(unknown)}")
        return pa.Table.from_arrays(arrays, schema=self.arrow)

    def trimmed(self, table: pa.Table) -> pa.Table:
        """Return a table without the added columns in which nothing is given; it may lack some already."""
        given = {name for name in table.column_names if table[name].null_count < table.num_rows}
        return table.select([c.name for c in self.columns if not c.added or c.name in given])

    def conform(self, table: pa.Table) -> pa.Table:
        """Return a table written under another schema.

        Columns that the ontology has gained since are null, those that it has lost are left out.
        """
        wanted = self.arrow
        found = {field.name: field.type for field in table.schema}
        held = {c.name for c in self.columns if c.name in found and not (c.added and found[c.name] != c.type)}
        if table.column_names == wanted.names and len(held) == len(wanted):
            return table
        fields = [table.schema.field(field.name) if field.name in held else field for field in wanted]
        columns = [table.column(f.name) if f.name in held else pa.nulls(table.num_rows, f.type) for f in fields]
        return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=wanted.metadata))


_S, _F, _I, _B = pa.string(), pa.float64(), pa.int64(), pa.bool_()


def _id(doc: str = "UUID of the element") -> Column:
    return Column("id", _S, "", doc)


def _ref(name: str, table: str, doc: str, nullable: bool = False) -> Column:
    return Column(name, _S, "", doc, nullable, references=table)


def _f(name: str, unit: str, doc: str, nullable: bool = False) -> Column:
    return Column(name, _F, unit, doc, nullable)


def _i(name: str, unit: str, doc: str, nullable: bool = False) -> Column:
    return Column(name, _I, unit, doc, nullable)


def _b(name: str, doc: str, nullable: bool = False) -> Column:
    return Column(name, _B, "", doc, nullable)


def _s(name: str, doc: str, nullable: bool = False) -> Column:
    return Column(name, _S, "", doc, nullable)


_TERMINALS = (_ref("from_bus", "bus", "bus at the from end"), _ref("to_bus", "bus", "bus at the to end"))
_D = DataType

_TABLES = (
    # --- E_System: existence of the system and its regions
    TableSchema(
        "system",
        _D.E_SYSTEM,
        "the power system",
        (
            _id(),
            _s("name", "system name"),
            _f("base_mva", "MVA", "system base"),
            _f("frequency_hz", "Hz", ""),
            _i("calendar_year", "a", "year of the hourly profiles; null = unknown or no profiles", True),
        ),
    ),
    TableSchema(
        "region",
        _D.E_SYSTEM,
        "regions of the system",
        (_id(), _s("name", "region name"), _ref("system", "system", "")),
    ),
    # --- E_SC: security requirements
    TableSchema(
        "interface",
        _D.E_SC,
        "transmission interfaces (flow gates) and their limits",
        (
            _id(),
            _s("name", "interface name"),
            _f("limit_forward_mw", "MW", "largest flow in the positive direction"),
            _f("limit_backward_mw", "MW", "largest flow in the negative direction"),
        ),
    ),
    TableSchema(
        "interface_branch",
        _D.E_SC,
        "branches that make up an interface",
        (
            _ref("interface", "interface", ""),
            _ref("branch", "entity", "a line or transformer"),
            _f("direction", "1", "+1 when from►to counts as forward, -1 otherwise"),
        ),
        key=("interface", "branch"),
    ),
    TableSchema(
        "reserve_requirement",
        _D.E_SC,
        "positive and negative reserve, and spinning reserve for ramps",
        (
            _id(),
            _ref("region", "region", "region that must hold the reserve; null = whole system", True),
            _s("product", "positive | negative | ramp_up | ramp_down"),
            _f("share_of_load", "1", "required MW per MW of load"),
            _f("share_of_renewable", "1", "required MW per MW of wind and solar infeed"),
            _f("minimum_mw", "MW", "floor of the requirement"),
        ),
    ),
    TableSchema(
        "voltage_criterion",
        _D.E_SC,
        "admissible voltages by nominal voltage, in the base case and after a contingency",
        (
            _id(),
            _f("base_kv_min", "kV", "from this nominal voltage"),
            _f("base_kv_max", "kV", "up to this nominal voltage"),
            _f("vm_pu_min", "p.u.", "base case"),
            _f("vm_pu_max", "p.u.", "base case"),
            _f("vm_contingency_pu_min", "p.u.", "after a contingency"),
            _f("vm_contingency_pu_max", "p.u.", "after a contingency"),
        ),
    ),
    TableSchema(
        "loading_criterion",
        _D.E_SC,
        "admissible loading of branches, relative to the rating",
        (
            _id(),
            _s("kind", "line | transformer"),
            _f("loading_max", "1", "base case"),
            _f("loading_contingency_max", "1", "after a contingency (emergency rating / rating)"),
        ),
    ),
    # --- E_WAS: wide-area control
    TableSchema(
        "agc_control",
        _D.E_WAS,
        "automatic generation control of a region",
        (
            _id(),
            _ref("region", "region", "controlled region"),
            _f("target_interchange_mw", "MW", "scheduled net export"),
            _f("frequency_bias_mw_per_hz", "MW/Hz", "bias of the area control error"),
            _f("deadband_mw", "MW", "no action below this area control error"),
        ),
    ),
    TableSchema(
        "avc_control",
        _D.E_WAS,
        "automatic voltage control of a pilot bus",
        (
            _id(),
            _ref("pilot_bus", "bus", "controlled bus"),
            _f("target_vm_pu", "p.u.", "target control value"),
            _f("deadband_pu", "p.u.", "no action below this deviation"),
        ),
    ),
    # --- E_SS: system state indicators by hour
    TableSchema(
        "system_state",
        _D.E_SS,
        "hourly indicators of the system or a region",
        (
            _i("hour", "h", "hour of the year, 0 to 8759"),
            _ref("area", "system|region", "system or region"),
            _f("load_mw", "MW", "demand"),
            _f("reserve_up_mw", "MW", "positive spinning reserve"),
            _f("reserve_down_mw", "MW", "negative spinning reserve"),
            _f("renewable_mw", "MW", "integrated renewable power"),
            _f("curtailed_mw", "MW", "curtailed renewable power"),
            _f("load_shed_mw", "MW", "shed load"),
            _f("losses_mw", "MW", "network losses", True),
        ),
        key=("hour", "area"),
    ),
    # --- E_Market
    TableSchema(
        "market_bid",
        _D.E_MARKET,
        "bids of sellers and buyers",
        (
            _id(),
            _ref("participant", "entity", "unit or load that bids"),
            _s("side", "sell | buy"),
            _i("hour", "h", "hour of the year"),
            _i("segment", "1", "position in the bid curve"),
            _f("quantity_mw", "MW", "quantity of the segment"),
            _f("price_eur_per_mwh", "EUR/MWh", "price of the segment"),
        ),
    ),
    # --- E_SV: static verification
    TableSchema(
        "contingency",
        _D.E_SV,
        "contingencies of N-1 analysis",
        (_id(), _s("name", "contingency name"), _s("set", "name of the contingency set")),
    ),
    TableSchema(
        "contingency_element",
        _D.E_SV,
        "elements that a contingency takes out",
        (_ref("contingency", "contingency", ""), _ref("element", "entity", "element taken out")),
        key=("contingency", "element"),
    ),
    TableSchema(
        "adjustment_coefficient",
        _D.E_SV,
        "regional adjustment of generation or load for verification",
        (
            _id(),
            _ref("region", "region", ""),
            _s("kind", "generation | load"),
            _f("coefficient", "1", "factor on the region's total"),
        ),
    ),
    # --- E_Entity: existence of entities
    TableSchema(
        "station",
        _D.E_ENTITY,
        "stations",
        (
            _id(),
            _s("name", "station name"),
            _ref("region", "region", ""),
            _f("longitude_deg", "deg", "WGS 84", True),
            _f("latitude_deg", "deg", "WGS 84", True),
        ),
    ),
    TableSchema(
        "entity",
        _D.E_ENTITY,
        "every device: its identity, kind and name",
        (
            _id(),
            _s("kind", "table of E_SM that holds its static model"),
            _s("name", "device name"),
            _s("source_id", "identifier in the source file"),
        ),
    ),
    # --- E_SM: static models and parameters
    TableSchema(
        "bus",
        _D.E_SM,
        "nodes of the network",
        (
            _id(),
            _f("base_kv", "kV", "nominal voltage"),
            _f("vm_pu_min", "p.u.", "lowest admissible voltage, null = criterion of E_SC", True),
            _f("vm_pu_max", "p.u.", "highest admissible voltage, null = criterion of E_SC", True),
            _b("slack", "angle reference"),
            _f("longitude_deg", "deg", "WGS 84", True),
            _f("latitude_deg", "deg", "WGS 84", True),
        ),
    ),
    TableSchema(
        "line",
        _D.E_SM,
        "pi-model lines; parameters of all parallel circuits together",
        (
            _id(),
            *_TERMINALS,
            _f("r_ohm", "ohm", "series resistance"),
            _f("x_ohm", "ohm", "series reactance"),
            _f("g_s", "S", "total shunt conductance"),
            _f("b_s", "S", "total shunt susceptance"),
            _f("i_max_ka", "kA", "permanent current rating, null = unrated", True),
            _f("length_km", "km", "", True),
            _f("loading_max", "1", "admissible loading in the base case, null = criterion of E_SC", True),
        ),
    ),
    TableSchema(
        "transformer",
        _D.E_SM,
        "two-winding transformers and phase shifters; per unit on rated_mva and the rated to-side voltage",
        (
            _id(),
            *_TERMINALS,
            _f("rated_mva", "MVA", "rated power of all parallel units together"),
            _f("rated_from_kv", "kV", "rated voltage of the from winding"),
            _f("rated_to_kv", "kV", "rated voltage of the to winding"),
            _f("r_pu", "p.u.", "short-circuit resistance"),
            _f("x_pu", "p.u.", "short-circuit reactance"),
            _f("g_pu", "p.u.", "magnetizing conductance"),
            _f("b_pu", "p.u.", "magnetizing susceptance (negative: inductive)"),
            _s("model", "where the magnetizing branch sits: t (middle) | pi (half each end) | gamma (from end)"),
            _f("shift_deg", "deg", "phase shift at neutral tap; positive: from leads to"),
            _s("tap_side", "from | to | none"),
            _i("tap_neutral", "1", "", True),
            _i("tap_min", "1", "", True),
            _i("tap_max", "1", "", True),
            _f("tap_step_percent", "%", "voltage change a step", True),
            _f("tap_step_deg", "deg", "angle of the added voltage (cross regulation)", True),
            _b("tap_phase_shifter", "ideal phase shifter: a step turns by tap_step_deg, ratio unchanged"),
            _f("i_max_from_ka", "kA", "rating at the from side, null = rated_mva decides, inf = unrated", True),
            _f("loading_max", "1", "admissible loading in the base case, null = criterion of E_SC", True),
        ),
    ),
    TableSchema(
        "transformer3",
        _D.E_SM,
        "three-winding transformers, as a star of three windings",
        (
            _id(),
            _ref("high_bus", "bus", ""),
            _ref("medium_bus", "bus", ""),
            _ref("low_bus", "bus", ""),
            *(
                _f(f"{q}_{w}{suffix}", unit, f"{doc}, {w} winding")
                for q, suffix, unit, doc in (
                    ("rated", "_mva", "MVA", "rated power"),
                    ("rated", "_kv", "kV", "rated voltage"),
                    (
                        "r",
                        "_pu",
                        "p.u.",
                        "star resistance on system base of the high winding's rated voltage",
                    ),
                    ("x", "_pu", "p.u.", "star reactance on system base of the high winding's rated voltage"),
                )
                for w in ("high", "medium", "low")
            ),
            _f("g_pu", "p.u.", "magnetizing conductance on system base of the high winding's rated voltage"),
            _f("b_pu", "p.u.", "magnetizing susceptance on system base of the high winding's rated voltage"),
            _f("shift_medium_deg", "deg", ""),
            _f("shift_low_deg", "deg", ""),
            _s("tap_side", "high | medium | low | none"),
            _i("tap_neutral", "1", "", True),
            _i("tap_min", "1", "", True),
            _i("tap_max", "1", "", True),
            _f("tap_step_percent", "%", "", True),
            _f("tap_step_deg", "deg", "", True),
            _b("tap_at_star_point", "the tap sits at the star point"),
            _s(
                "magnetizing_at",
                "high | medium | low: in the middle of that winding's impedance; null: at the star point",
                True,
            ),
        ),
    ),
    TableSchema(
        "equivalent_branch",
        _D.E_SM,
        "fictitious or given per-unit branches (impedances, network equivalents); no rating, no contingency",
        (
            _id(),
            *_TERMINALS,
            _f("r_pu", "p.u.", "series resistance on system base"),
            _f("x_pu", "p.u.", "series reactance on system base"),
            _f("g_from_pu", "p.u.", ""),
            _f("b_from_pu", "p.u.", ""),
            _f("g_to_pu", "p.u.", ""),
            _f("b_to_pu", "p.u.", ""),
            _f("ratio", "1", "off-nominal ratio at the from side"),
            _f("shift_deg", "deg", ""),
            _f("rating_mva", "MVA", "null = unrated", True),
            _b("fictitious", "made by an equivalence: never a contingency"),
        ),
    ),
    TableSchema(
        "shunt",
        _D.E_SM,
        "capacitors and reactors in steps; power drawn at 1 p.u.",
        (
            _id(),
            _ref("bus", "bus", ""),
            _f("g_step_mw", "MW", "active power drawn by a step at 1 p.u."),
            _f("b_step_mvar", "Mvar", "reactive power injected by a step at 1 p.u."),
            _i("step_min", "1", ""),
            _i("step_max", "1", ""),
            _b("controllable", "the reactive dispatch may switch it"),
        ),
    ),
    TableSchema(
        "svg",
        _D.E_SM,
        "static var generators (also SVC, STATCOM): controllable reactive power",
        (
            _id(),
            _ref("bus", "bus", ""),
            _f("q_mvar_min", "Mvar", ""),
            _f("q_mvar_max", "Mvar", ""),
        ),
    ),
    TableSchema(
        "switch",
        _D.E_SM,
        "switches between two buses (closed: one node) or at a branch end (open: branch dangling)",
        (
            _id(),
            _ref("bus", "bus", ""),
            _ref("element", "entity", "the other bus, or the branch at whose end it sits"),
            _f("r_ohm", "ohm", "0 = ideal"),
        ),
    ),
    TableSchema(
        "unit",
        _D.E_SM,
        "generating units of every technology, also imports over the border",
        (
            _id(),
            _ref("bus", "bus", ""),
            _s("technology", "key of the technology table, e.g. gas_ccgt, hard_coal, wind_onshore"),
            _f("rated_mva", "MVA", "", True),
            _f("p_mw_min", "MW", "technical minimum when on"),
            _f("p_mw_max", "MW", ""),
            _f("q_mvar_min", "Mvar", ""),
            _f("q_mvar_max", "Mvar", ""),
            _b("voltage_control", "regulates its bus voltage"),
            _b("variable", "infeed is bounded by an availability series (wind, sun, run of river)"),
            _b("committable", "has an on/off decision"),
            _b("must_run", ""),
            _f("ramp_up_mw_per_h", "MW/h", ""),
            _f("ramp_down_mw_per_h", "MW/h", ""),
            _f("startup_mw", "MW", "largest output in the hour of start-up"),
            _f("shutdown_mw", "MW", "largest output in the hour before shut-down"),
            _i("min_up_h", "h", ""),
            _i("min_down_h", "h", ""),
            _f("energy_mwh_max", "MWh", "energy budget of the year (hydro), null = none", True),
        ),
    ),
    TableSchema(
        "load",
        _D.E_SM,
        "loads with their voltage dependence",
        (
            _id(),
            _ref("bus", "bus", ""),
            _f("share_z", "1", "constant-impedance share"),
            _f("share_i", "1", "constant-current share"),
            _b("sheddable", ""),
        ),
    ),
    TableSchema(
        "storage",
        _D.E_SM,
        "batteries and pumped storage",
        (
            _id(),
            _ref("bus", "bus", ""),
            _s("technology", ""),
            _f("p_charge_mw_max", "MW", ""),
            _f("p_discharge_mw_max", "MW", ""),
            _f("q_mvar_min", "Mvar", ""),
            _f("q_mvar_max", "Mvar", ""),
            _f("energy_mwh_min", "MWh", ""),
            _f("energy_mwh_max", "MWh", ""),
            _f("efficiency_charge", "1", ""),
            _f("efficiency_discharge", "1", ""),
        ),
    ),
    TableSchema(
        "hvdc",
        _D.E_SM,
        "HVDC lines between two AC buses; power measured at the sending end",
        (
            _id(),
            *_TERMINALS,
            _f("p_mw_min", "MW", "negative: reversible"),
            _f("p_mw_max", "MW", ""),
            _f("loss_percent", "%", "of the power sent"),
            _f("loss_mw", "MW", "constant loss"),
            _f("q_from_mvar_min", "Mvar", ""),
            _f("q_from_mvar_max", "Mvar", ""),
            _f("q_to_mvar_min", "Mvar", ""),
            _f("q_to_mvar_max", "Mvar", ""),
        ),
    ),
    # --- E_DM
    TableSchema(
        "dynamic_model",
        _D.E_DM,
        "differential-algebraic model of a dynamic device",
        (
            _id(),
            _ref("device", "entity", ""),
            _s("model", "e.g. synchronous_machine_6, exciter_ac1, governor_tgov1"),
            _s("equations", "LaTeX source of the equations, null = library model", True),
        ),
    ),
    TableSchema(
        "dynamic_parameter",
        _D.E_DM,
        "parameters of the dynamic models (inertia constant, transient reactance, ...)",
        (
            _ref("model", "dynamic_model", ""),
            _s("name", "e.g. h_s, xd_pu, xd1_pu, td01_s"),
            _f("value", "see unit", ""),
            _s("unit", ""),
        ),
        key=("model", "name"),
    ),
    # --- E_DS
    TableSchema(
        "protection",
        _D.E_DS,
        "relay protection of a device",
        (
            _id(),
            _ref("device", "entity", ""),
            _s("model", "differential | distance | overcurrent | ..."),
            _f("pickup_current_pu", "p.u.", "minimum pickup current", True),
            _f("slope_1", "1", "first slope of the percentage characteristic", True),
            _f("slope_2", "1", "second slope", True),
            _f("delay_s", "s", "intentional delay", True),
        ),
    ),
    # --- E_CE
    TableSchema(
        "unit_cost",
        _D.E_CE,
        "operating cost of a unit or storage",
        (
            _ref("device", "entity", ""),
            _f("no_load_eur_per_h", "EUR/h", "cost of being on at zero output, extrapolated"),
            _f("shutdown_eur", "EUR", ""),
            _f("co2_t_per_mwh", "t/MWh", "emission of electric energy"),
            _f("curtailment_eur_per_mwh", "EUR/MWh", "price of not using available variable infeed"),
            _s("source", "where the figures come from"),
        ),
        key=("device",),
    ),
    TableSchema(
        "cost_segment",
        _D.E_CE,
        "convex piecewise-linear production cost",
        (
            _ref("device", "entity", ""),
            _i("segment", "1", "0, 1, ..."),
            _f("p_mw_from", "MW", "start of the segment"),
            _f("p_mw_to", "MW", "end of the segment"),
            _f("marginal_eur_per_mwh", "EUR/MWh", "includes fuel, variable O&M and CO2"),
        ),
        key=("device", "segment"),
    ),
    TableSchema(
        "start_cost",
        _D.E_CE,
        "start-up cost by time off (hot, warm, cold)",
        (
            _ref("device", "entity", ""),
            _i("off_h_min", "h", "applies from this many hours off"),
            _f("cost_eur", "EUR", ""),
        ),
        key=("device", "off_h_min"),
    ),
    TableSchema(
        "construction_cost",
        _D.E_CE,
        "cost of building a station or device",
        (
            _ref("device", "entity|station", ""),
            _s("formula", "linear in the named quantity"),
            _f("fixed_eur", "EUR", ""),
            _f("per_mw_eur", "EUR/MW", ""),
            _f("lifetime_a", "a", ""),
        ),
        key=("device",),
    ),
    # --- E_ES: entity state (a snapshot; the hourly quantities are series)
    TableSchema(
        "bus_state",
        _D.E_ES,
        "solved voltages",
        (_id(), _b("in_service", ""), _f("vm_pu", "p.u.", "", True), _f("va_deg", "deg", "", True)),
    ),
    TableSchema(
        "branch_state",
        _D.E_ES,
        "lines, transformers, equivalent branches: in service, tap position",
        (_id(), _b("in_service", ""), _i("tap", "1", "null = no tap changer", True)),
    ),
    TableSchema(
        "unit_state",
        _D.E_ES,
        "commitment and set points of units",
        (
            _id(),
            _b("in_service", "commissioned and not on maintenance"),
            _b("on", ""),
            _f("p_mw", "MW", ""),
            _f("q_mvar", "Mvar", ""),
            _f("vm_set_pu", "p.u.", "control voltage, null = no voltage control", True),
        ),
    ),
    TableSchema(
        "load_state",
        _D.E_ES,
        "demand",
        (_id(), _b("in_service", ""), _f("p_mw", "MW", ""), _f("q_mvar", "Mvar", "")),
    ),
    TableSchema(
        "shunt_state",
        _D.E_ES,
        "switched steps",
        (_id(), _b("in_service", ""), _i("step", "1", "steps in use")),
    ),
    TableSchema(
        "svg_state",
        _D.E_ES,
        "static var generators",
        (_id(), _b("in_service", ""), _f("q_mvar", "Mvar", ""), _f("vm_set_pu", "p.u.", "", True)),
    ),
    TableSchema("switch_state", _D.E_ES, "switch positions", (_id(), _b("closed", ""))),
    TableSchema(
        "storage_state",
        _D.E_ES,
        "storages",
        (
            _id(),
            _b("in_service", ""),
            _f("p_mw", "MW", "positive: discharging"),
            _f("q_mvar", "Mvar", ""),
            _f("energy_mwh", "MWh", "energy stored"),
        ),
    ),
    TableSchema(
        "hvdc_state",
        _D.E_ES,
        "HVDC set points",
        (
            _id(),
            _b("in_service", ""),
            _f("p_mw", "MW", "sent from the from end"),
            _f("q_from_mvar", "Mvar", "injected"),
            _f("q_to_mvar", "Mvar", "injected"),
            _f("vm_from_set_pu", "p.u.", "", True),
            _f("vm_to_set_pu", "p.u.", "", True),
        ),
    ),
    TableSchema(
        "service_period",
        _D.E_ES,
        "commissioning, decommissioning, maintenance and forced outage periods",
        (
            _id(),
            _ref("device", "entity", ""),
            _s("kind", "commissioned | maintenance | forced_outage"),
            _i("hour_from", "h", "first hour, inclusive"),
            _i("hour_to", "h", "last hour, exclusive"),
        ),
    ),
    TableSchema(
        "profile_assignment",
        _D.E_ES,
        "which historical profile drives a device, and its scale",
        (
            _ref("device", "entity", ""),
            _s("quantity", "p_mw | q_mvar | available_mw"),
            _s("profile", "column of the series profile.value"),
            _f("scale", "MW or Mvar", "value at profile = 1"),
        ),
        key=("device", "quantity", "profile"),
    ),
    # --- E_TV
    TableSchema(
        "transient_event",
        _D.E_TV,
        "faults and disturbances for transient verification",
        (
            _id(),
            _s("kind", "line_short_circuit | dc_blocking | load_step | unit_trip | line_trip"),
            _ref("device", "entity", "where it happens"),
            _f("location", "1", "position along the line from the from end, 0 to 1", True),
            _f("start_s", "s", ""),
            _f("end_s", "s", ""),
            _f("magnitude", "1", "per unit of the device's rating or set point", True),
        ),
    ),
    # --- relationships
    TableSchema(
        "contains",
        _D.R_ORGANISATION,
        "system > region > station > device",
        (_ref("parent", "system|region|station", ""), _ref("child", "region|station|entity", "")),
        key=("child",),
    ),
    TableSchema(
        "connects",
        _D.R_TOPOLOGY,
        "terminals: which bus a device is connected to",
        (
            _ref("device", "entity", ""),
            _s("terminal", "from | to | bus | high | medium | low"),
            _ref("bus", "bus", ""),
        ),
        key=("device", "terminal"),
    ),
)

Tables: TypeAlias = Mapping[str, TableSchema]
"""The tables of an ontology by name: `TABLES`, or these with what programs have added."""

TABLES: Tables = MappingProxyType({table.name: table for table in _TABLES})


@dataclass(frozen=True)
class SeriesSchema:
    """An hourly quantity: rows = hours of the year, one column an element."""

    name: str
    data_type: DataType
    element: str
    unit: str
    doc: str
    type: pa.DataType = _F


_SERIES = (
    SeriesSchema("profile.value", _D.E_ES, "profile", "1", "historical profiles, hourly means"),
    SeriesSchema("load.p_mw", _D.E_ES, "load", "MW", "demand"),
    SeriesSchema("load.q_mvar", _D.E_ES, "load", "Mvar", "reactive demand"),
    SeriesSchema("load.shed_mw", _D.E_ES, "load", "MW", "load shed by the schedule"),
    SeriesSchema("unit.available_mw", _D.E_ES, "unit", "MW", "available power of variable units"),
    SeriesSchema("unit.in_service", _D.E_ES, "unit", "", "not on maintenance or forced out", _B),
    SeriesSchema("unit.on", _D.E_ES, "unit", "", "commitment", _B),
    SeriesSchema("unit.p_mw", _D.E_ES, "unit", "MW", "active set point"),
    SeriesSchema("unit.q_mvar", _D.E_ES, "unit", "Mvar", "reactive output"),
    SeriesSchema("unit.reserve_up_mw", _D.E_ES, "unit", "MW", "positive spinning reserve held"),
    SeriesSchema("unit.reserve_down_mw", _D.E_ES, "unit", "MW", "negative spinning reserve held"),
    SeriesSchema("storage.p_mw", _D.E_ES, "storage", "MW", "positive: discharging"),
    SeriesSchema("storage.energy_mwh", _D.E_ES, "storage", "MWh", "energy at the end of the hour"),
    SeriesSchema("hvdc.p_mw", _D.E_ES, "hvdc", "MW", "sent from the from end"),
    SeriesSchema("hvdc.q_from_mvar", _D.E_ES, "hvdc", "Mvar", "injected at the from end"),
    SeriesSchema("hvdc.q_to_mvar", _D.E_ES, "hvdc", "Mvar", "injected at the to end"),
    SeriesSchema("bus.vm_set_pu", _D.E_ES, "bus", "p.u.", "voltage set point; NaN: not controlled"),
    SeriesSchema("bus.vm_pu", _D.E_ES, "bus", "p.u.", "voltage magnitude"),
    SeriesSchema("bus.va_rad", _D.E_ES, "bus", "rad", "voltage angle"),
    SeriesSchema("bus.price_eur_per_mwh", _D.E_ES, "bus", "EUR/MWh", "locational marginal price"),
    SeriesSchema("branch.tap", _D.E_ES, "branch", "1", "tap position", _I),
    SeriesSchema("branch.loading", _D.E_ES, "branch", "1", "current / rating in the base case"),
    SeriesSchema("shunt.step", _D.E_ES, "shunt", "1", "switched steps", _I),
    SeriesSchema("svg.q_mvar", _D.E_ES, "svg", "Mvar", "reactive output"),
)

SERIES: Mapping[str, SeriesSchema] = MappingProxyType({series.name: series for series in _SERIES})

NAME_LENGTH_MAX = 1000
"""Names and keys are indexed: Neo4j's index takes 8 kB, four bytes a character at most, and PostgreSQL's less."""
HOURS_PER_YEAR = 8760
MONTH_STARTS = (0, 744, 1416, 2160, 2880, 3624, 4344, 5088, 5832, 6552, 7296, 8016, HOURS_PER_YEAR)
"""Hour at which each month begins, and the end of the year; the year of 8760 hours has no 29 February."""

_ELEMENT_NAMESPACE = uuid.UUID("0f6a2f57-55a2-5a0e-8f4d-b5c39c1f7d7e")


def months_between(start: int, stop: int) -> dict[int, slice]:
    """Return the part of each month that lies within hours `start` to before `stop`: month (1 to 12) ► hours."""
    parts = {
        month: slice(max(first, start), min(last, stop))
        for month, (first, last) in enumerate(itertools.pairwise(MONTH_STARTS), 1)
    }
    return {month: part for month, part in parts.items() if part.start < part.stop}


def element_id(system: str, kind: str, source_id: str) -> str:
    """Return the UUID of an element: the same source element always gets the same id."""
    return str(uuid.uuid5(_ELEMENT_NAMESPACE, f"{system}\x1f{kind}\x1f{source_id}"))


def check_table(name: str, table: pa.Table, ontology: Tables = TABLES) -> list[Finding]:
    """Check a table against its schema: columns, types, nulls, bounds of added columns, and duplicate keys."""
    schema = ontology.get(name)
    if schema is None:
        return [Finding("table", (name,), "is not part of the ontology", f"use one of {sorted(ontology)}")]
    findings: list[Finding] = []
    for column in schema.columns:
        if column.name not in table.column_names:
            if not column.added:
                findings.append(Finding(name, (), "column is missing", "add it", column.name))
            continue
        values = table.column(column.name)
        if values.type != column.type:
            findings.append(Finding(name, (), f"has type {values.type}", f"give {column.type}", column.name))
        elif not column.nullable and values.null_count:
            findings.append(Finding(name, (), f"has {values.null_count} nulls", "fill them", column.name))
        elif pa.types.is_string(values.type):
            texts = values.unique().to_pylist()
            findings += check_texts(name, {column.name: texts})
            if column.name == "name" or column.name in schema.key:
                findings += check_lengths(name, column.name, texts, NAME_LENGTH_MAX)
        elif column.added:
            findings += _check_bounds(name, column, table)
    if not findings and table.num_rows:
        counts = table.group_by(list(schema.key)).aggregate([([], "count_all")])
        repeated = counts.filter(pc.greater(counts["count_all"], 1))
        if repeated.num_rows:
            ids = tuple("/".join(str(row[k]) for k in schema.key) for row in repeated.to_pylist())
            findings.append(Finding(name, ids, "is defined more than once", "keep one row each"))
    return findings


def _check_bounds(name: str, column: Column, table: pa.Table) -> list[Finding]:
    """Return the rows of an added column that lie outside its bounds or are not finite."""
    findings = []
    values = table.column(column.name)
    for bound, beyond, word in ((column.minimum, pc.less, "least"), (column.maximum, pc.greater, "most")):
        if bound is not None:
            outside = table.filter(beyond(values, bound))
            if outside.num_rows:
                ids = tuple(map(str, outside.column(0).to_pylist()))
                said = f"has {outside.column(column.name)[0].as_py()} {column.unit}".rstrip()
                findings.append(Finding(name, ids, said, f"give at {word} {bound:g}", column.name))
    if pa.types.is_floating(column.type):
        odd = table.filter(pc.invert(pc.is_finite(values)))
        if odd.num_rows:
            ids = tuple(map(str, odd.column(0).to_pylist()))
            findings.append(Finding(name, ids, "is not finite", "give a number", column.name))
    return findings
