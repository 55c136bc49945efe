"""Arrow batches as the core's Contexts: the only place that knows both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from decision_engine.types import Column, Contexts


def contexts_of(batch: pa.RecordBatch) -> Contexts:
    """A batch with a `customer_id` column as Contexts; that and the other columns by name."""
    who = batch.column("customer_id").to_numpy(zero_copy_only=False)
    columns = {
        name: column_of_array(batch.column(i))
        for i, name in enumerate(batch.schema.names)
        if name != "customer_id"
    }
    return Contexts(who, {**columns, "customer_id": Column(who, np.ones(len(who), dtype=bool))})


def column_of_array(array: pa.Array) -> Column:
    """Values and validity; numbers become float64, times Unix seconds, all else text."""
    valid = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    return Column(_values(array), valid)


def _values(array: pa.Array) -> NDArray[Any]:
    kind = array.type
    if pa.types.is_boolean(kind):
        return np.asarray(array.fill_null(False).to_numpy(zero_copy_only=False))
    if pa.types.is_timestamp(kind):
        micros = array.cast(pa.timestamp("us")).cast(pa.int64()).fill_null(0)
        return np.asarray(micros.to_numpy(zero_copy_only=False).astype(np.float64) / 1e6)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return np.asarray(array.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False))
    return np.asarray(pc.fill_null(array.cast(pa.string()), "").to_numpy(zero_copy_only=False))


def list_array(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """A matrix (n, m) as an Arrow list array of n rows."""
    n, m = values.shape
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * m)
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1), type=kind))


def matrix_of(array: pa.Array) -> NDArray[Any]:
    """An Arrow list array whose rows all have the same length, as a matrix (n, m)."""
    flat = array.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(len(array), -1)) if len(array) else np.empty((0, 0))
