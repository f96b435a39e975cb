{# How long one reading is trusted, in microseconds. -#}
{% macro hold_us() -%}
  {%- set seconds = var('cronofy_hold_seconds') -%}
  {%- set hold_us = (seconds * 1000000) | round | int if seconds is number else 0 -%}
  {%- if hold_us <= 0 -%}
    {{- exceptions.raise_compiler_error('cronofy_hold_seconds must be a positive number, not ' ~ seconds) -}}
  {%- endif -%}
  {{- hold_us -}}
{%- endmacro %}
