"""The static ontology in SQL: a table an element type, rows by content."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TEXT, WHOLE = sa.String(), sa.BigInteger()
NUMBER: sa.Double[float] = sa.Double()


def _content() -> sa.Column[int]:
    reference = sa.ForeignKey("ontology_content.id", ondelete="CASCADE")
    return sa.Column("content", sa.Integer(), reference, nullable=False)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "ontology_content",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("rows", WHOLE, nullable=False),
        sa.Column("stored_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "t_agc_control",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("region", TEXT, nullable=False),
        sa.Column("target_interchange_mw", NUMBER, nullable=False),
        sa.Column("frequency_bias_mw_per_hz", NUMBER, nullable=False),
        sa.Column("deadband_mw", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_agc_control_by_region", "t_agc_control", ["content", "region"], unique=False)
    op.create_table(
        "t_avc_control",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("pilot_bus", TEXT, nullable=False),
        sa.Column("target_vm_pu", NUMBER, nullable=False),
        sa.Column("deadband_pu", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_avc_control_by_pilot_bus", "t_avc_control", ["content", "pilot_bus"], unique=False)
    op.create_table(
        "t_bus",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("base_kv", NUMBER, nullable=False),
        sa.Column("vm_pu_min", NUMBER, nullable=True),
        sa.Column("vm_pu_max", NUMBER, nullable=True),
        sa.Column("slack", sa.Boolean(), nullable=False),
        sa.Column("longitude_deg", NUMBER, nullable=True),
        sa.Column("latitude_deg", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "t_connects",
        _content(),
        sa.Column("device", TEXT, nullable=False),
        sa.Column("terminal", TEXT, nullable=False),
        sa.Column("bus", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("content", "device", "terminal"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_connects_by_bus", "t_connects", ["content", "bus"], unique=False)
    op.create_table(
        "t_construction_cost",
        _content(),
        sa.Column("device", TEXT, nullable=False),
        sa.Column("formula", TEXT, nullable=False),
        sa.Column("fixed_eur", NUMBER, nullable=False),
        sa.Column("per_mw_eur", NUMBER, nullable=False),
        sa.Column("lifetime_a", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "device"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "t_contains",
        _content(),
        sa.Column("parent", TEXT, nullable=False),
        sa.Column("child", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("content", "child"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_contains_by_parent", "t_contains", ["content", "parent"], unique=False)
    op.create_table(
        "t_cost_segment",
        _content(),
        sa.Column("device", TEXT, nullable=False),
        sa.Column("segment", WHOLE, nullable=False),
        sa.Column("p_mw_from", NUMBER, nullable=False),
        sa.Column("p_mw_to", NUMBER, nullable=False),
        sa.Column("marginal_eur_per_mwh", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "device", "segment"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "t_dynamic_model",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("device", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("equations", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_dynamic_model_by_device", "t_dynamic_model", ["content", "device"], unique=False)
    op.create_table(
        "t_dynamic_parameter",
        _content(),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", NUMBER, nullable=False),
        sa.Column("unit", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("content", "model", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "t_entity",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("source_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "t_equivalent_branch",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("from_bus", TEXT, nullable=False),
        sa.Column("to_bus", TEXT, nullable=False),
        sa.Column("r_pu", NUMBER, nullable=False),
        sa.Column("x_pu", NUMBER, nullable=False),
        sa.Column("g_from_pu", NUMBER, nullable=False),
        sa.Column("b_from_pu", NUMBER, nullable=False),
        sa.Column("g_to_pu", NUMBER, nullable=False),
        sa.Column("b_to_pu", NUMBER, nullable=False),
        sa.Column("ratio", NUMBER, nullable=False),
        sa.Column("shift_deg", NUMBER, nullable=False),
        sa.Column("rating_mva", NUMBER, nullable=True),
        sa.Column("fictitious", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "t_equivalent_branch_by_from_bus", "t_equivalent_branch", ["content", "from_bus"], unique=False
    )
    op.create_index("t_equivalent_branch_by_to_bus", "t_equivalent_branch", ["content", "to_bus"], unique=False)
    op.create_table(
        "t_hvdc",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("from_bus", TEXT, nullable=False),
        sa.Column("to_bus", TEXT, nullable=False),
        sa.Column("p_mw_min", NUMBER, nullable=False),
        sa.Column("p_mw_max", NUMBER, nullable=False),
        sa.Column("loss_percent", NUMBER, nullable=False),
        sa.Column("loss_mw", NUMBER, nullable=False),
        sa.Column("q_from_mvar_min", NUMBER, nullable=False),
        sa.Column("q_from_mvar_max", NUMBER, nullable=False),
        sa.Column("q_to_mvar_min", NUMBER, nullable=False),
        sa.Column("q_to_mvar_max", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_hvdc_by_from_bus", "t_hvdc", ["content", "from_bus"], unique=False)
    op.create_index("t_hvdc_by_to_bus", "t_hvdc", ["content", "to_bus"], unique=False)
    op.create_table(
        "t_interface",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("limit_forward_mw", NUMBER, nullable=False),
        sa.Column("limit_backward_mw", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "t_interface_branch",
        _content(),
        sa.Column("interface", TEXT, nullable=False),
        sa.Column("branch", TEXT, nullable=False),
        sa.Column("direction", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "interface", "branch"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_interface_branch_by_branch", "t_interface_branch", ["content", "branch"], unique=False)
    op.create_table(
        "t_line",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("from_bus", TEXT, nullable=False),
        sa.Column("to_bus", TEXT, nullable=False),
        sa.Column("r_ohm", NUMBER, nullable=False),
        sa.Column("x_ohm", NUMBER, nullable=False),
        sa.Column("g_s", NUMBER, nullable=False),
        sa.Column("b_s", NUMBER, nullable=False),
        sa.Column("i_max_ka", NUMBER, nullable=True),
        sa.Column("length_km", NUMBER, nullable=True),
        sa.Column("loading_max", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_line_by_from_bus", "t_line", ["content", "from_bus"], unique=False)
    op.create_index("t_line_by_to_bus", "t_line", ["content", "to_bus"], unique=False)
    op.create_table(
        "t_load",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("bus", TEXT, nullable=False),
        sa.Column("share_z", NUMBER, nullable=False),
        sa.Column("share_i", NUMBER, nullable=False),
        sa.Column("sheddable", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_load_by_bus", "t_load", ["content", "bus"], unique=False)
    op.create_table(
        "t_loading_criterion",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("loading_max", NUMBER, nullable=False),
        sa.Column("loading_contingency_max", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "t_protection",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("device", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("pickup_current_pu", NUMBER, nullable=True),
        sa.Column("slope_1", NUMBER, nullable=True),
        sa.Column("slope_2", NUMBER, nullable=True),
        sa.Column("delay_s", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_protection_by_device", "t_protection", ["content", "device"], unique=False)
    op.create_table(
        "t_region",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("system", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_region_by_system", "t_region", ["content", "system"], unique=False)
    op.create_table(
        "t_reserve_requirement",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("region", TEXT, nullable=True),
        sa.Column("product", TEXT, nullable=False),
        sa.Column("share_of_load", NUMBER, nullable=False),
        sa.Column("share_of_renewable", NUMBER, nullable=False),
        sa.Column("minimum_mw", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "t_reserve_requirement_by_region", "t_reserve_requirement", ["content", "region"], unique=False
    )
    op.create_table(
        "t_shunt",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("bus", TEXT, nullable=False),
        sa.Column("g_step_mw", NUMBER, nullable=False),
        sa.Column("b_step_mvar", NUMBER, nullable=False),
        sa.Column("step_min", WHOLE, nullable=False),
        sa.Column("step_max", WHOLE, nullable=False),
        sa.Column("controllable", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_shunt_by_bus", "t_shunt", ["content", "bus"], unique=False)
    op.create_table(
        "t_start_cost",
        _content(),
        sa.Column("device", TEXT, nullable=False),
        sa.Column("off_h_min", WHOLE, nullable=False),
        sa.Column("cost_eur", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "device", "off_h_min"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "t_station",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("region", TEXT, nullable=False),
        sa.Column("longitude_deg", NUMBER, nullable=True),
        sa.Column("latitude_deg", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_station_by_region", "t_station", ["content", "region"], unique=False)
    op.create_table(
        "t_storage",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("bus", TEXT, nullable=False),
        sa.Column("technology", TEXT, nullable=False),
        sa.Column("p_charge_mw_max", NUMBER, nullable=False),
        sa.Column("p_discharge_mw_max", NUMBER, nullable=False),
        sa.Column("q_mvar_min", NUMBER, nullable=False),
        sa.Column("q_mvar_max", NUMBER, nullable=False),
        sa.Column("energy_mwh_min", NUMBER, nullable=False),
        sa.Column("energy_mwh_max", NUMBER, nullable=False),
        sa.Column("efficiency_charge", NUMBER, nullable=False),
        sa.Column("efficiency_discharge", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_storage_by_bus", "t_storage", ["content", "bus"], unique=False)
    op.create_table(
        "t_svg",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("bus", TEXT, nullable=False),
        sa.Column("q_mvar_min", NUMBER, nullable=False),
        sa.Column("q_mvar_max", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_svg_by_bus", "t_svg", ["content", "bus"], unique=False)
    op.create_table(
        "t_switch",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("bus", TEXT, nullable=False),
        sa.Column("element", TEXT, nullable=False),
        sa.Column("r_ohm", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_switch_by_bus", "t_switch", ["content", "bus"], unique=False)
    op.create_index("t_switch_by_element", "t_switch", ["content", "element"], unique=False)
    op.create_table(
        "t_system",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("base_mva", NUMBER, nullable=False),
        sa.Column("frequency_hz", NUMBER, nullable=False),
        sa.Column("calendar_year", WHOLE, nullable=True),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "t_transformer",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("from_bus", TEXT, nullable=False),
        sa.Column("to_bus", TEXT, nullable=False),
        sa.Column("rated_mva", NUMBER, nullable=False),
        sa.Column("rated_from_kv", NUMBER, nullable=False),
        sa.Column("rated_to_kv", NUMBER, nullable=False),
        sa.Column("r_pu", NUMBER, nullable=False),
        sa.Column("x_pu", NUMBER, nullable=False),
        sa.Column("g_pu", NUMBER, nullable=False),
        sa.Column("b_pu", NUMBER, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("shift_deg", NUMBER, nullable=False),
        sa.Column("tap_side", TEXT, nullable=False),
        sa.Column("tap_neutral", WHOLE, nullable=True),
        sa.Column("tap_min", WHOLE, nullable=True),
        sa.Column("tap_max", WHOLE, nullable=True),
        sa.Column("tap_step_percent", NUMBER, nullable=True),
        sa.Column("tap_step_deg", NUMBER, nullable=True),
        sa.Column("tap_phase_shifter", sa.Boolean(), nullable=False),
        sa.Column("i_max_from_ka", NUMBER, nullable=True),
        sa.Column("loading_max", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_transformer_by_from_bus", "t_transformer", ["content", "from_bus"], unique=False)
    op.create_index("t_transformer_by_to_bus", "t_transformer", ["content", "to_bus"], unique=False)
    op.create_table(
        "t_transformer3",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("high_bus", TEXT, nullable=False),
        sa.Column("medium_bus", TEXT, nullable=False),
        sa.Column("low_bus", TEXT, nullable=False),
        sa.Column("rated_high_mva", NUMBER, nullable=False),
        sa.Column("rated_medium_mva", NUMBER, nullable=False),
        sa.Column("rated_low_mva", NUMBER, nullable=False),
        sa.Column("rated_high_kv", NUMBER, nullable=False),
        sa.Column("rated_medium_kv", NUMBER, nullable=False),
        sa.Column("rated_low_kv", NUMBER, nullable=False),
        sa.Column("r_high_pu", NUMBER, nullable=False),
        sa.Column("r_medium_pu", NUMBER, nullable=False),
        sa.Column("r_low_pu", NUMBER, nullable=False),
        sa.Column("x_high_pu", NUMBER, nullable=False),
        sa.Column("x_medium_pu", NUMBER, nullable=False),
        sa.Column("x_low_pu", NUMBER, nullable=False),
        sa.Column("g_pu", NUMBER, nullable=False),
        sa.Column("b_pu", NUMBER, nullable=False),
        sa.Column("shift_medium_deg", NUMBER, nullable=False),
        sa.Column("shift_low_deg", NUMBER, nullable=False),
        sa.Column("tap_side", TEXT, nullable=False),
        sa.Column("tap_neutral", WHOLE, nullable=True),
        sa.Column("tap_min", WHOLE, nullable=True),
        sa.Column("tap_max", WHOLE, nullable=True),
        sa.Column("tap_step_percent", NUMBER, nullable=True),
        sa.Column("tap_step_deg", NUMBER, nullable=True),
        sa.Column("tap_at_star_point", sa.Boolean(), nullable=False),
        sa.Column("magnetizing_at", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_transformer3_by_high_bus", "t_transformer3", ["content", "high_bus"], unique=False)
    op.create_index("t_transformer3_by_low_bus", "t_transformer3", ["content", "low_bus"], unique=False)
    op.create_index("t_transformer3_by_medium_bus", "t_transformer3", ["content", "medium_bus"], unique=False)
    op.create_table(
        "t_unit",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("bus", TEXT, nullable=False),
        sa.Column("technology", TEXT, nullable=False),
        sa.Column("rated_mva", NUMBER, nullable=True),
        sa.Column("p_mw_min", NUMBER, nullable=False),
        sa.Column("p_mw_max", NUMBER, nullable=False),
        sa.Column("q_mvar_min", NUMBER, nullable=False),
        sa.Column("q_mvar_max", NUMBER, nullable=False),
        sa.Column("voltage_control", sa.Boolean(), nullable=False),
        sa.Column("variable", sa.Boolean(), nullable=False),
        sa.Column("committable", sa.Boolean(), nullable=False),
        sa.Column("must_run", sa.Boolean(), nullable=False),
        sa.Column("ramp_up_mw_per_h", NUMBER, nullable=False),
        sa.Column("ramp_down_mw_per_h", NUMBER, nullable=False),
        sa.Column("startup_mw", NUMBER, nullable=False),
        sa.Column("shutdown_mw", NUMBER, nullable=False),
        sa.Column("min_up_h", WHOLE, nullable=False),
        sa.Column("min_down_h", WHOLE, nullable=False),
        sa.Column("energy_mwh_max", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("t_unit_by_bus", "t_unit", ["content", "bus"], unique=False)
    op.create_table(
        "t_unit_cost",
        _content(),
        sa.Column("device", TEXT, nullable=False),
        sa.Column("no_load_eur_per_h", NUMBER, nullable=False),
        sa.Column("shutdown_eur", NUMBER, nullable=False),
        sa.Column("co2_t_per_mwh", NUMBER, nullable=False),
        sa.Column("curtailment_eur_per_mwh", NUMBER, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("content", "device"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "t_voltage_criterion",
        _content(),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("base_kv_min", NUMBER, nullable=False),
        sa.Column("base_kv_max", NUMBER, nullable=False),
        sa.Column("vm_pu_min", NUMBER, nullable=False),
        sa.Column("vm_pu_max", NUMBER, nullable=False),
        sa.Column("vm_contingency_pu_min", NUMBER, nullable=False),
        sa.Column("vm_contingency_pu_max", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("content", "id"),
        sqlite_with_rowid=False,
    )
