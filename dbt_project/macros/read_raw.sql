{#-
  A raw table of var nextmove_sources with the given columns (name -> type).
  Not on the list: no rows. On the list but absent, or without a column that is not optional: an error.
-#}
{% macro read_raw(table, columns, optional=[]) -%}
    {%- if table not in var('nextmove_sources') -%}
        {{ return(nextmove.typed_select(none, columns, {})) }}
    {%- endif -%}
    {%- set relation = source('nextmove_raw', table) -%}
    {%- set present = nextmove.column_types(relation) if execute else columns -%}
    {%- if not present -%}
        {{ exceptions.raise_compiler_error("var nextmove_sources lists " ~ table ~ ", but " ~ relation ~ " does not exist; load it or take it off the list") }}
    {%- endif -%}
    {%- for name in columns if name not in present and name not in optional -%}
        {{ exceptions.raise_compiler_error(relation ~ " has no column " ~ name ~ ", which nextmove needs") }}
    {%- endfor -%}
    {{ return(nextmove.typed_select(relation, columns, present)) }}
{%- endmacro %}
