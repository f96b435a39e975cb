"""Sources in the layout of dlt's verified sources; `dlt init` copies a folder of these."""
