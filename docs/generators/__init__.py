"""What writes the generated pages of docs/ and the dbt package. Not in the wheel."""
