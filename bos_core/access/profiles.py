"""From profiles to hourly quantities of devices: one sparse product."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from bos_core.grid.model import FloatArray, StrArray


def assignment_matrix(
    assignment: pa.Table, quantity: str, device_ids: StrArray, profile_names: StrArray
) -> sp.csr_matrix:
    """Return the matrix that maps profile values to a quantity of devices.

    Parameters
    ----------
    assignment : pa.Table
        Ontology table ``profile_assignment``.
    quantity : {"p_mw", "q_mvar", "available_mw"}
    device_ids : (device,) str
    profile_names : (profile,) str

    Returns
    -------
    sparse (device, profile)
        Scales in MW or Mvar; devices without an assignment have an empty row.

    Raises
    ------
    KeyError
        When an assignment names a profile that does not exist.
    """
    rows = assignment.filter(pc.equal(assignment["quantity"], quantity))
    device = pc.index_in(rows["device"], pa.array(device_ids.tolist(), pa.string()))
    known = pc.is_valid(device)
    rows, device = rows.filter(known), device.filter(known)
    profile = pc.index_in(rows["profile"], pa.array(profile_names.tolist(), pa.string()))
    if profile.null_count:
        missing = sorted(set(rows.filter(pc.is_null(profile))["profile"].to_pylist()))
        raise KeyError(f"profiles {missing} are assigned but have no values")
    return sp.csr_matrix(
        (rows["scale"].to_numpy(), (device.to_numpy(), profile.to_numpy())),
        shape=(device_ids.size, profile_names.size),
    )


def assigned(
    assignment: pa.Table, quantity: str, device_ids: StrArray, profile_names: StrArray, values: FloatArray
) -> tuple[FloatArray, np.ndarray]:
    """Return hourly values (hour, device) and which devices have an assignment at all (device,).

    `values` has the shape (hour, profile).
    """
    matrix = assignment_matrix(assignment, quantity, device_ids, profile_names)
    return np.ascontiguousarray((matrix @ values.T).T), np.diff(matrix.indptr) > 0
