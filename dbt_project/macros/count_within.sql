{#- How many rows of the group satisfy `condition` in the last `hours` before as_of. -#}
{% macro count_within(column, hours, condition='1 = 1') -%}
    cast(sum(case when {{ condition }} and {{ column }} > {{ nextmove.before_as_of(hours) }} then 1 else 0 end) as integer)
{%- endmacro %}
