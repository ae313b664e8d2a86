"""Where pictures come from: folders, tars, Parquet files, here and on object storage."""
