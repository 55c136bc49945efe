{#-
  One select with exactly the given columns (name -> type), cast. Columns that are not among
  `present` (name -> type they have) are NULL; without a relation there are no rows.
-#}
{% macro typed_select(relation, columns, present) -%}
    select
    {%- for name, type in columns.items() %}
        {%- if name in present and type == 'timestamp' and nextmove.has_zone(present[name]) %}
        {{ nextmove.to_utc('entry.' ~ name) }}
        {%- else %}
        cast({{ 'entry.' ~ name if name in present else 'null' }} as {{ type }})
        {%- endif %} as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
    {%- if relation %}
    from {{ relation }} as entry
    {%- else %}
    where 1 = 0
    {%- endif %}
{%- endmacro %}
