{# How long one reading is trusted, as SQL writes it. -#}
{% macro hold() -%}
  {%- set seconds = var('cronofy_hold_seconds') -%}
  {%- set microseconds = (seconds * 1000000) | round | int if seconds is number else 0 -%}
  {%- if microseconds <= 0 -%}
    {{- exceptions.raise_compiler_error('cronofy_hold_seconds must be a positive number, not ' ~ seconds) -}}
  {%- endif -%}
  {{- cronofy.interval(microseconds, 'microsecond') -}}
{%- endmacro %}
