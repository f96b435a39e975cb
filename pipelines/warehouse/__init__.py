"""The warehouse: the dlt pipeline that writes it, its DuckDB file, who may write, and SQL that reads it."""
