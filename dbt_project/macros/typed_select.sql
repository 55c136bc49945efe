{#-
  One select with exactly the given columns (name -> type), cast. Columns that are not among
  `present` are NULL; without a relation there are no rows.
-#}
{% macro typed_select(relation, columns, present) -%}
    select
    {%- for name, type in columns.items() %}
        cast({{ 'entry.' ~ name if name in present else 'null' }} as {{ type }}) as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
    {%- if relation %}
    from {{ relation }} as entry
    {%- else %}
    where 1 = 0
    {%- endif %}
{%- endmacro %}
