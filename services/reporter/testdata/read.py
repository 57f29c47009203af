# Reads a Parquet file with every row group and prints types and rows as JSON.
import json
import sys

import pyarrow
import pyarrow.parquet

file = pyarrow.parquet.ParquetFile(sys.argv[1], page_checksum_verification=True)
groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
assert file.metadata.num_rows == sum(g.num_rows for g in groups)
table = file.read()
# Each row group by itself is the same part of the whole.
at = 0
for i, group in enumerate(groups):
    assert file.read_row_group(i) == table.slice(at, group.num_rows)
    at += group.num_rows
names = table.column_names
types = {f.name: str(f.type) for f in table.schema}
dates = names.index("createdDate")
table = table.set_column(dates, "createdDate", table.column(dates).cast(pyarrow.int64()))
json.dump({"types": types, "rows": table.to_pylist()}, sys.stdout)
