{# The column is a share: between 0 and 1, or null. -#}
{% test share(model, column_name) -%}
select {{ column_name }}
from {{ model }}
where {{ column_name }} < 0 or {{ column_name }} > 1
{%- endtest %}
