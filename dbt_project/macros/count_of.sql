{#- `table.column` as an integer of the same name, 0 where there is no row. -#}
{% macro count_of(column) -%}
    cast(coalesce({{ column }}, 0) as integer) as {{ column.split('.')[1] }}
{%- endmacro %}
