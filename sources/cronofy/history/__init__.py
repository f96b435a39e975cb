"""History: what answers say, what is known, and the rows that are new."""
