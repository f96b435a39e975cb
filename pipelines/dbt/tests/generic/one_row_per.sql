{# No two rows are alike in these columns, nulls included. `quoted` are columns whose names are reserved. -#}
{% test one_row_per(model, columns, quoted=[]) -%}
  {%- set grain = columns | list -%}
  {%- for column in quoted -%}
    {%- do grain.append(adapter.quote(column)) -%}
  {%- endfor -%}
select {{ grain | join(', ') }}, count(*) as copies
from {{ model }}
group by {{ grain | join(', ') }}
having count(*) > 1
{%- endtest %}
