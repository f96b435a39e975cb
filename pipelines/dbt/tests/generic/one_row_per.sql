{# No two rows are alike in these columns, nulls included. -#}
{% test one_row_per(model, columns) -%}
select {{ columns | join(', ') }}, count(*) as copies
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{%- endtest %}
