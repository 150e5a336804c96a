"""How every peer is called: the settings that make the same problem of it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandapower
from frame import CACHE
from networks import TOLERANCE_PU, Case

HERE = Path(__file__).parent
PEERS = CACHE / "peers"
"""Virtual environment of the peers that the product does not have among its own packages."""


def run_pandapower(case: Case, *, start: np.ndarray | None = None, **options: Any) -> None:
    """Solve the case's net; leaves the solution in it."""
    first: dict[str, Any] = {"init": "dc"}
    if start is not None:
        angles = np.zeros(len(case.net.bus))
        sizes = np.ones(len(case.net.bus))
        sizes[: case.n_bus], angles[: case.n_bus] = np.abs(start), np.rad2deg(np.angle(start))
        first = {"init_vm_pu": sizes, "init_va_degree": angles}
    settings = {
        "trafo_model": "t", "calculate_voltage_angles": True, "tolerance_mva": TOLERANCE_PU * case.net.sn_mva,
        "max_iteration": 30, "numba": True, "enforce_q_lims": False, **first, **options,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pandapower.runpp(case.net, **settings)


def lightsim(case: Case) -> tuple[Any, np.ndarray]:
    """Return lightsim2grid's model of a case, and its number of each branch, (branch,).

    It is given the product's pi models and bus injections, in the format of PowerModels: its reader of pandapower
    nets takes capacitive magnetizing branches for inductive ones.
    """
    from lightsim2grid.network import init_from_powermodels

    n, given = case.grid.network, case.injections
    if given.p_impedance_pu.any() or given.p_current_pu.any():
        raise ValueError("lightsim2grid has no loads that depend on the voltage")
    wound = (n.ratio != 1.0) | (n.shift_rad != 0.0) | (n.base_kv[n.from_bus] != n.base_kv[n.to_bus])
    controls = np.flatnonzero(given.voltage_control)
    others = np.flatnonzero(~given.voltage_control & ((given.p_pu != 0) | (given.q_pu != 0)))
    shunts = np.flatnonzero((n.g_shunt_pu != 0) | (n.b_shunt_pu != 0))
    base = n.base_mva
    slack = n.slack
    bus_type = np.where(given.voltage_control, 2, 1)
    bus_type[slack] = 3
    pm: dict[str, Any] = {
        "baseMVA": base,
        "bus": {
            str(k): {"bus_i": k, "bus_type": int(bus_type[k]), "base_kv": n.base_kv[k], "vmax": 1.5, "vmin": 0.5}
            for k in range(n.n_bus)
        },
        "branch": {
            str(k): {
                "f_bus": int(n.from_bus[k]), "t_bus": int(n.to_bus[k]), "br_r": n.r_pu[k], "br_x": n.x_pu[k],
                "g_fr": n.g_from_pu[k], "g_to": n.g_to_pu[k], "b_fr": n.b_from_pu[k], "b_to": n.b_to_pu[k],
                "tap": n.ratio[k], "shift": n.shift_rad[k], "transformer": bool(wound[k]), "br_status": 1,
            }
            for k in range(n.n_branch)
        },
        "gen": {
            str(k): {
                "gen_bus": int(bus), "pg": given.p_pu[bus] * base, "qg": 0.0, "qmin": -1e6, "qmax": 1e6,
                "vg": given.vm_set_pu[bus], "gen_status": 1,
            }
            for k, bus in enumerate(controls)
        },
        "load": {
            str(k): {
                "load_bus": int(bus), "pd": -given.p_pu[bus] * base, "qd": -given.q_pu[bus] * base, "status": 1,
            }
            for k, bus in enumerate(others)
        },
        "shunt": {
            str(k): {"shunt_bus": int(bus), "gs": n.g_shunt_pu[bus], "bs": n.b_shunt_pu[bus], "status": 1}
            for k, bus in enumerate(shunts)
        },
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = init_from_powermodels(pm)
    number = np.where(wound, (~wound).sum() + np.cumsum(wound) - 1, np.cumsum(~wound) - 1)
    return model, number


def powsybl(case: Case) -> Any:
    """Return pypowsybl's network of a case."""
    import pypowsybl.network

    for name in ("pypowsybl", "powsybl"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return pypowsybl.network.load(str(case.xiidm()))


def open_load_flow(case: Case, *, q_limits: bool = False, distributed: bool = False) -> Any:
    """Return the parameters of OpenLoadFlow for the same problem."""
    import pypowsybl.loadflow as lf

    slack = str(case.grid.network.bus_id[case.grid.network.slack])
    return lf.Parameters(
        voltage_init_mode=lf.VoltageInitMode.DC_VALUES,
        distributed_slack=distributed,
        balance_type=lf.BalanceType.PROPORTIONAL_TO_GENERATION_P_MAX,
        use_reactive_limits=q_limits,
        transformer_voltage_control_on=False,
        phase_shifter_regulation_on=False,
        shunt_compensator_voltage_control_on=False,
        hvdc_ac_emulation=False,
        provider_parameters={
            "newtonRaphsonStoppingCriteriaType": "PER_EQUATION_TYPE_CRITERIA",
            "maxActivePowerMismatch": str(TOLERANCE_PU * 100.0),
            "maxReactivePowerMismatch": str(TOLERANCE_PU * 100.0),
            "maxVoltageMismatch": str(TOLERANCE_PU),
            "slackBusSelectionMode": "NAME",
            "slackBusesIds": slack,
            "voltageRemoteControl": "false",
            "generatorsWithZeroMwTargetAreNotStarted": "false",
            "disableVoltageControlOfGeneratorsOutsideActivePowerLimits": "false",
            "plausibleActivePowerLimit": "1000000",
            "minPlausibleTargetVoltage": "0.3",
            "maxPlausibleTargetVoltage": "2.0",
            "contingencyPropagation": "false",
        },
    )  # fmt: skip


def powsybl_voltages(network: Any, case: Case) -> np.ndarray:
    """Return the solution in a pypowsybl network, (bus,) complex p.u."""
    buses = network.get_buses(attributes=["v_mag", "v_angle", "voltage_level_id"]).set_index("voltage_level_id")
    level = network.get_voltage_levels(attributes=["nominal_v"]).nominal_v
    found = buses.loc["VL " + np.asarray(case.grid.network.bus_id, dtype=object)]
    vm = found.v_mag.to_numpy() / level.loc[found.index].to_numpy()
    return np.asarray(vm * np.exp(1j * np.deg2rad(found.v_angle.to_numpy())))


def in_environment(
    script: str, arrays: dict[str, np.ndarray], *arguments: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Run a script of `peers/` in the peers' own environment; arrays go in and come out as files.

    Returns
    -------
    What the script printed as JSON, and its arrays.
    """
    python = peers_python()
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **arrays)
        command = [str(python), str(HERE / "peers" / script), str(given), str(made), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        with np.load(made) as found:
            return json.loads(done.stdout.strip().splitlines()[-1]), dict(found)


def peers_python() -> Path:
    """Return the Python of the peers' environment, making it where it is missing or out of date."""
    wanted = HERE / "peers" / "requirements.txt"
    python, stamp = PEERS / "bin" / "python", PEERS / ".installed"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        for command in (
            [sys.executable, "-m", "venv", str(PEERS)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr or done.stdout).strip().splitlines()
                raise RuntimeError(f"the peers' environment cannot be made: {last[-1] if last else command[-1]}")
        stamp.write_text(wanted.read_text())
    return python
