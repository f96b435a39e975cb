{# The load keeps views of the same names beside its tables. A model there would replace them. -#}
{% macro check_schema() -%}
  {%- set database = var('cronofy_database', target.database) or '' -%}
  {%- if execute and this.schema | lower == var('cronofy_schema') | lower
      and (this.database or '') | lower == database | lower -%}
    {{- exceptions.raise_compiler_error(
      this ~ ' would replace a view of the load: give the models of the package cronofy another schema'
    ) -}}
  {%- endif -%}
{%- endmacro %}
