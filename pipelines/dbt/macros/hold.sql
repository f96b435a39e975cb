{# Until when the reading of an instant is trusted. -#}
{% macro plus_hold(instant) -%}
  {%- set seconds = var('cronofy_hold_seconds') -%}
  {%- set microseconds = (seconds * 1000000) | round | int if seconds is number else 0 -%}
  {%- if microseconds <= 0 -%}
    {{- exceptions.raise_compiler_error('cronofy_hold_seconds must be a positive number, not ' ~ seconds) -}}
  {%- endif -%}
  {{- cronofy.plus_microseconds(instant, '+', microseconds) -}}
{%- endmacro %}
